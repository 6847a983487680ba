/* SPDX-License-Identifier: Apache-2.0
 * The reviews as a page. The model spreads its attention almost evenly, so a word's shade says where its weight stands between
 * the lightest and the heaviest word of its review. */
#include "bench/html.h"

#include "bench/program.h"

#include <stdio.h>
#include <string.h>

enum { PADDING = 0, START = 1, OUT_OF_VOCABULARY = 2, SHADES = 10 };

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\">\n"
    "<title>Attention on IMDB reviews</title>\n<style>\n"
    ":root{--ink:#23252b;--soft:#6d727d;--line:#e3e5ea;--paper:#fff;--heat:224,108,34;--good:#1d7a4c;--bad:#b3343c}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e6ea;--soft:#989eaa;--line:#33373f;--paper:#191b1f;"
    "--heat:232,128,52;--good:#5cc08f;--bad:#ee7f86}}\n"
    "body{margin:0 auto;padding:2.5rem 1.25rem;max-width:60rem;background:var(--paper);color:var(--ink);"
    "font:16px/1.75 system-ui,-apple-system,\"Segoe UI\",sans-serif}\n"
    "h1{font-size:1.5rem;line-height:1.3;margin:0 0 .5rem}.lead,.legend{color:var(--soft);max-width:46rem;margin:.4rem "
    "0}\n"
    "article{display:grid;grid-template-columns:11rem 1fr;gap:1.75rem;border-top:1px solid var(--line);padding:1.4rem "
    "0;"
    "content-visibility:auto;contain-intrinsic-size:auto 20rem}\n"
    "aside{font-size:.8125rem;line-height:1.55;color:var(--soft)}aside "
    "b{display:block;font-size:1rem;color:var(--ink)}\n"
    ".good{color:var(--good)}.bad{color:var(--bad)}\n"
    ".bar{display:block;position:relative;height:.375rem;margin:.4rem "
    "0;border-radius:.2rem;background:var(--line);overflow:hidden}\n"
    ".bar i{position:absolute;left:0;top:0;bottom:0;background:currentColor}\n"
    "p{margin:0;overflow-wrap:anywhere}p u,.legend u{text-decoration:none;border-radius:.2rem;padding:.08rem .1rem}\n"
    "p s{text-decoration:none;color:var(--soft);font-size:.8125rem}\n";

static const char head_end[] = "@media(max-width:40rem){article{grid-template-columns:1fr;gap:.6rem}}\n"
                               "</style></head><body>\n";

/* The vocabulary is text from the reviews: anything may stand in it. */
static void put_escaped(FILE *file, const char *words) {
    for (const char *c = words; *c; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", file);
            break;
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        case '\'':
            fputs("&#39;", file);
            break;
        default:
            fputc(*c, file);
        }
    }
}

/* What a review's attention does, over its words alone. */
typedef struct spread {
    size_t padding; /* steps */
    double on_padding, lightest, heaviest;
} spread;

static spread spread_of(const imdb *m, size_t review) {
    const uint16_t *token = m->tokens + review * m->steps;
    const float *weight = m->ours.attention_weights + review * m->steps;
    spread s = {.lightest = 1};
    for (size_t t = 0; t < m->steps; t++) {
        if (token[t] == PADDING) {
            s.padding++, s.on_padding += (double)weight[t];
            continue;
        }
        if ((double)weight[t] < s.lightest) s.lightest = (double)weight[t];
        if ((double)weight[t] > s.heaviest) s.heaviest = (double)weight[t];
    }
    return s;
}

static int shade_of(const spread *s, double weight) {
    const double range = s->heaviest - s->lightest, part = range > 0 ? (weight - s->lightest) / range : 0;
    return (int)(part * (SHADES - 1) + 0.5);
}

static void put_word(FILE *file, const imdb *m, unsigned token, int shade) {
    if (shade) fprintf(file, "<u class=\"h%d\">", shade);
    if (token == START)
        fputs("<s title=\"start\">&#9656;</s>", file);
    else if (token == OUT_OF_VOCABULARY || !m->word[token])
        fputs("<s title=\"a word outside the vocabulary\">&#9633;</s>", file);
    else
        put_escaped(file, m->word[token]);
    fputs(shade ? "</u>\n" : "\n", file);
}

static void put_aside(FILE *file, const imdb *m, size_t review, const spread *s) {
    const double p = (double)m->ours.probability[review];
    const bool right = (p > 0.5) == m->label[review];
    fprintf(file, "<aside><b>%s</b><span class=\"%s\">probability %.3f %s", m->label[review] ? "positive" : "negative",
            right ? "good" : "bad", p, right ? "&#10003;" : "&#10007;");
    fprintf(file, "<span class=\"bar\"><i style=\"width:%.1f%%\"></i></span></span>", 100 * p);
    fprintf(file, "Keras %.3f<br>%zu words<br>%.2f to %.2f %% each<br>", (double)m->keras.probability[review],
            m->steps - s->padding, 100 * s->lightest, 100 * s->heaviest);
    put_escaped(file, m->name[review]);
    fputs("</aside>\n", file);
}

static void put_review(FILE *file, const imdb *m, size_t review) {
    const uint16_t *token = m->tokens + review * m->steps;
    const float *weight = m->ours.attention_weights + review * m->steps;
    const spread s = spread_of(m, review);
    fputs("<article>", file);
    put_aside(file, m, review, &s);
    fputs("<p>", file);
    if (s.padding)
        fprintf(file, "<s>%zu &times; padding, %.0f %% of the attention</s>\n", s.padding, 100 * s.on_padding);
    for (size_t t = 0; t < m->steps; t++)
        if (token[t] != PADDING) put_word(file, m, token[t], shade_of(&s, (double)weight[t]));
    fputs("</p></article>\n", file);
}

static void put_top(FILE *file, const imdb *m) {
    const imdb_agreement a = imdb_compare(m);
    fputs(head, file);
    for (int shade = 1; shade < SHADES; shade++) {
        const double part = (double)shade / (SHADES - 1);
        fprintf(file, ".h%d{background:rgba(var(--heat),%.2f)}", shade, 0.85 * part * part);
    }
    fputs(head_end, file);
    fprintf(file,
            "<h1>What the attention layer looks at</h1>\n<p class=\"lead\">%zu test reviews through Embedding &rarr; "
            "LSTM &rarr; attention"
            " &rarr; Dense, the attention computed by libattention %s. Accuracy %.1f %%; probabilities within %.0e of "
            "Keras&#39;s.</p>\n",
            m->reviews, attn_version(), 100 * (double)a.right / (double)m->reviews, a.probability);
    fputs("<p class=\"legend\">A word is shaded by its attention weight, from the lightest ", file);
    for (int shade = 1; shade < SHADES; shade++) fprintf(file, "<u class=\"h%d\">&nbsp;&nbsp;</u>", shade);
    fputs(" to the heaviest of its review. The hidden state of a step carries the words before it, so what is shaded "
          "is where the"
          " LSTM had gathered something worth looking at. &#9656; start, &#9633; a word outside the vocabulary.</p>\n",
          file);
}

void html_write(const imdb *m, const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) fail("can't write %s", path);
    put_top(file, m);
    for (size_t i = 0; i < m->reviews; i++) put_review(file, m, i);
    fputs("</body></html>\n", file);
    if (fflush(file) || ferror(file) || fclose(file)) fail("can't write %s", path);
}
