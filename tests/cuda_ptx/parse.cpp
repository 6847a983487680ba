/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_ptx/parse.h"

#include <cctype>
#include <cstring>

namespace ptx {

namespace {

struct token {
    std::string text;
    unsigned line;
};

[[noreturn]] void refuse(const std::string &what, unsigned line) {
    throw fault("line " + std::to_string(line) + ": " + what);
}

/* ---- Words ----------------------------------------------------------------------------------------- */

bool in_word(const std::string &text, size_t at) {
    const char c = text[at];
    return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_$%.", c);
}

/* The end of the word that starts here; x::y is one word. */
size_t word_end(const std::string &text, size_t at) {
    while (at < text.size() && (in_word(text, at) || text.compare(at, 2, "::") == 0))
        at += text.compare(at, 2, "::") == 0 ? 2 : 1;
    return at;
}

/* The first place behind a comment that starts here, or `at`. */
size_t skip_comment(const std::string &text, size_t at) {
    const bool line = text.compare(at, 2, "//") == 0;
    if (!line && text.compare(at, 2, "/*") != 0) return at;
    const size_t end = text.find(line ? "\n" : "*/", at);
    return end == std::string::npos ? text.size() : end + (line ? 0 : 2);
}

size_t string_end(const std::string &text, size_t at) {
    const size_t end = text.find('"', at + 1);
    return end == std::string::npos ? text.size() : end + 1;
}

std::vector<token> cut(const std::string &text) {
    std::vector<token> tokens;
    unsigned line = 1;
    for (size_t at = 0; at < text.size();) {
        size_t end = skip_comment(text, at);
        if (end == at && std::isspace(static_cast<unsigned char>(text[at]))) {
            end = at + 1;
        } else if (end == at) {
            end = text[at] == '"' ? string_end(text, at) : word_end(text, at);
            if (end == at) end = at + 1;
            tokens.push_back({text.substr(at, end - at), line});
        }
        for (; at < end; at++) line += text[at] == '\n';
    }
    return tokens;
}

/* ---- Types ----------------------------------------------------------------------------------------- */

const struct {
    const char *name;
    type is;
} types[] = {
    {"pred", {kind::predicate, 1}}, {"u8", {kind::unsigned_, 1}},       {"s8", {kind::signed_, 1}},
    {"b8", {kind::bits, 1}},        {"u16", {kind::unsigned_, 2}},      {"s16", {kind::signed_, 2}},
    {"b16", {kind::bits, 2}},       {"f16", {kind::real, 2}},           {"bf16", {kind::brain, 2}},
    {"u32", {kind::unsigned_, 4}},  {"s32", {kind::signed_, 4}},        {"b32", {kind::bits, 4}},
    {"f32", {kind::real, 4}},       {"u64", {kind::unsigned_, 8}},      {"s64", {kind::signed_, 8}},
    {"b64", {kind::bits, 8}},       {"f64", {kind::real, 8}},           {"f16x2", {kind::real, 2, true}},
    {"tf32", {kind::brain, 4}},     {"bf16x2", {kind::brain, 2, true}},
};

} // namespace

bool find_type(const std::string &word, type *found) {
    for (const auto &known : types)
        if (word == known.name) {
            *found = known.is;
            return true;
        }
    return false;
}

word word_of(const std::string &text) {
    static const char *const words[] = {
#define X(name) #name,
        PTX_WORDS(X)
#undef X
    };
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (text == words[i]) return static_cast<word>(i);
    return word::count;
}

namespace {

/* ---- Statements ------------------------------------------------------------------------------------ */

class reader {
  public:
    explicit reader(const std::string &text) : tokens(cut(text)) {}

    module read() {
        module all;
        while (at < tokens.size()) {
            const std::string &word = next();
            if (word == ".version" || word == ".target" || word == ".address_size")
                next();
            else if (word == ".extern" || word == ".shared" || word == ".visible" || word == ".weak")
                read_declaration(word, module_shared);
            else if (word == ".entry")
                read_kernel(all);
            else
                refuse("'" + word + "' is not known", line());
        }
        return all;
    }

  private:
    struct memory_names {
        std::map<std::string, symbol> of;
        size_t bytes = 0;

        void add(const std::string &name, size_t alignment, size_t size) {
            bytes = (bytes + alignment - 1) / alignment * alignment;
            of[name] = {bytes, size};
            bytes += size;
        }
    };

    std::vector<token> tokens;
    size_t at = 0;
    memory_names module_shared, shared, parameters, local;
    std::vector<std::map<std::string, unsigned>> scopes; /* registers by name, innermost last */
    std::map<std::string, size_t> labels;                /* instruction that follows */
    kernel *current = nullptr;

    unsigned line() const { return tokens[at < tokens.size() ? at : tokens.size() - 1].line; }
    const std::string &peek() const {
        if (at >= tokens.size()) refuse("the text ends here", line());
        return tokens[at].text;
    }
    const std::string &next() {
        const std::string &word = peek();
        at++;
        return word;
    }
    bool take(const char *text) {
        if (at >= tokens.size() || tokens[at].text != text) return false;
        at++;
        return true;
    }
    void expect(const char *text) {
        if (!take(text)) refuse("'" + std::string(text) + "' expected, not '" + peek() + "'", line());
    }

    size_t read_size() {
        const std::string &word = next();
        char *end;
        const unsigned long long size = std::strtoull(word.c_str(), &end, 0);
        if (*end) refuse("'" + word + "' is not a size", line());
        return static_cast<size_t>(size);
    }

    /* [.align N] .type name[N], the words before it read: its place in the memory. */
    void read_variable(memory_names &memory) {
        size_t alignment = 1, count = 1;
        if (take(".align")) alignment = read_size();
        type element;
        const std::string word = next();
        if (!find_type(word.substr(1), &element)) refuse("'" + word + "' is not a type", line());
        const std::string name = next();
        if (take("[")) {
            count = peek() == "]" ? 0 : read_size();
            expect("]");
        }
        memory.add(name, alignment > element.bytes ? alignment : element.bytes, count * element.bytes);
    }

    void read_declaration(const std::string &word, memory_names &memory) {
        if (word == ".visible" || word == ".weak") return;
        if (word == ".extern") expect(".shared");
        read_variable(memory);
        expect(";");
    }

    void read_kernel(module &all) {
        const std::string name = next();
        kernel &made = all[name];
        current = &made;
        made.name = name;
        shared = module_shared, parameters = {}, local = {};
        labels.clear();
        scopes.assign(1, {});
        if (take("("))
            while (!take(")")) {
                expect(".param");
                read_variable(parameters);
                take(",");
            }
        while (!take("{")) next(); /* .maxntid and its like */
        while (!scopes.empty()) read_statement();
        made.shared_bytes = shared.bytes, made.local_bytes = local.bytes, made.parameter_bytes = parameters.bytes;
        resolve_labels();
    }

    void read_statement() {
        if (take("{")) {
            scopes.emplace_back();
        } else if (take("}")) {
            scopes.pop_back();
        } else if (take(".reg")) {
            read_registers();
        } else if (take(".shared")) {
            read_declaration(".shared", shared);
        } else if (take(".local")) {
            read_declaration(".local", local);
        } else if (peek() == ".pragma" || peek() == ".loc") {
            while (!take(";")) next();
        } else if (at + 1 < tokens.size() && tokens[at + 1].text == ":") {
            labels[next()] = current->code.size();
            expect(":");
        } else {
            read_instruction();
        }
    }

    /* .reg .b32 %r<51>; makes 51 of them. */
    void read_registers() {
        next();
        do {
            const std::string name = next();
            if (!take("<")) {
                scopes.back()[name] = static_cast<unsigned>(current->registers++);
                continue;
            }
            const size_t count = read_size();
            for (size_t i = 0; i < count; i++)
                scopes.back()[name + std::to_string(i)] = static_cast<unsigned>(current->registers++);
            expect(">");
        } while (take(","));
        expect(";");
    }

    /* ---- Instructions ---- */

    void read_instruction() {
        instruction made;
        made.line = line();
        if (take("@")) {
            made.guarded = true;
            made.guard_negated = take("!");
            made.guard = register_of(next());
        }
        read_opcode(made);
        while (!take(";")) {
            made.operands.push_back(read_operand());
            take(",");
        }
        current->code.push_back(made);
    }

    void read_opcode(instruction &made) {
        made.text = next();
        const std::string &whole = made.text, name = whole.substr(0, whole.find('.'));
        const opcode *known = find_opcode(name);
        if (!known) refuse("the instruction " + whole + " is not known", made.line);
        made.run = known->run, made.meets = known->meets, made.opcode = word_of(name);
        for (size_t from = name.size(); from < whole.size();) {
            const size_t end = whole.find('.', from + 1);
            read_modifier(made, whole.substr(from + 1, end == std::string::npos ? end : end - from - 1), *known);
            from = end == std::string::npos ? whole.size() : end;
        }
    }

    void read_modifier(instruction &made, const std::string &modifier, const opcode &known) {
        type found;
        if (find_type(modifier, &found))
            made.types.push_back(found);
        else if ((" " + std::string(known.modifiers) + " ").find(" " + modifier + " ") == std::string::npos)
            refuse("the instruction " + made.text + " is not known: ." + modifier, made.line);
        else if (word_of(modifier) != word::count)
            made.modifiers.set(static_cast<size_t>(word_of(modifier)));
    }

    bool find_register(const std::string &name, unsigned *slot) const {
        for (size_t i = scopes.size(); i-- > 0;) {
            const auto found = scopes[i].find(name);
            if (found == scopes[i].end()) continue;
            *slot = found->second;
            return true;
        }
        return false;
    }

    unsigned register_of(const std::string &name) const {
        unsigned slot;
        if (!find_register(name, &slot)) refuse("the register " + name + " is not known", line());
        return slot;
    }

    operand read_operand() {
        if (take("[")) return read_address();
        operand made;
        if (take("{")) {
            made.where = place::vector;
            while (!take("}")) {
                made.parts.push_back(read_operand());
                take(",");
            }
            return made;
        }
        const bool negated = take("!"), minus = take("-");
        made = read_name(next(), minus);
        made.negated = negated;
        if (!take("|")) return made;
        operand both;
        both.where = place::vector;
        both.parts = {made, read_name(next(), false)};
        return both;
    }

    operand read_address() {
        operand made = read_name(next(), false);
        if (made.where == place::reg)
            made.has_base = true;
        else if (made.where != place::immediate)
            refuse("an address is neither register nor name", line());
        made.where = place::address;
        if (take("+")) {
            const bool minus = take("-");
            made.offset = static_cast<int64_t>(read_name(next(), minus).value);
        }
        expect("]");
        return made;
    }

    operand read_name(const std::string &word, bool minus) {
        operand made;
        unsigned slot;
        if (std::isdigit(static_cast<unsigned char>(word[0]))) {
            made.value = read_number(word);
            if (minus) made.value = 0 - made.value;
        } else if (find_register(word, &slot)) {
            made.where = place::reg, made.value = slot;
        } else if (word[0] == '%') {
            made = read_special(word);
        } else if (word == "_") {
            made.where = place::label, made.value = SIZE_MAX; /* a result that nobody wants */
        } else if (!find_symbol(word, &made.value)) {
            made.where = place::label;
            made.value = pending.size();
            pending.push_back(word);
        }
        return made;
    }

    uint64_t read_number(const std::string &word) const {
        const bool real = word.size() > 1 && word[0] == '0' && std::strchr("fFdD", word[1]);
        char *end;
        const uint64_t value = std::strtoull(word.c_str() + (real ? 2 : 0), &end, real ? 16 : 0);
        if (*end && std::strcmp(end, "U") != 0) refuse("'" + word + "' is not a number", line());
        return value;
    }

    operand read_special(const std::string &word) const {
        static const struct {
            const char *text;
            special name;
        } known[] = {{"%tid.", special::tid},
                     {"%ntid.", special::ntid},
                     {"%ctaid.", special::ctaid},
                     {"%nctaid.", special::nctaid},
                     {"%laneid", special::lane}};
        operand made;
        made.where = place::special;
        for (const auto &one : known) {
            const size_t length = std::strlen(one.text);
            if (word.compare(0, length, one.text) != 0) continue;
            made.name = one.name;
            made.axis = word.size() > length ? static_cast<unsigned>(word[length] - 'x') : 0;
            return made;
        }
        refuse("the register " + word + " is not known", line());
    }

    bool find_symbol(const std::string &word, uint64_t *value) const {
        for (const memory_names *memory : {&parameters, &shared, &local}) {
            const auto found = memory->of.find(word);
            if (found == memory->of.end()) continue;
            *value = found->second.offset;
            return true;
        }
        return false;
    }

    std::vector<std::string> pending; /* labels by the number that stands for them so far */

    void resolve_labels() {
        for (instruction &one : current->code)
            for (operand &given : one.operands) {
                if (given.where != place::label || given.value == SIZE_MAX) continue;
                const auto found = labels.find(pending[given.value]);
                if (found == labels.end()) refuse("'" + pending[given.value] + "' is not known", one.line);
                given.value = found->second;
            }
        pending.clear();
    }
};

} // namespace

module parse(const std::string &text) { return reader(text).read(); }

} // namespace ptx
