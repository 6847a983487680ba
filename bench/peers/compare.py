# SPDX-License-Identifier: Apache-2.0
"""Runs the attention layer through libattention and through other software, in turn and on the same inputs, and compares the times.

Every software runs in a process of its own, driven over pipes (protocol.py). In each round each contestant is timed over one
batch of calls while all other processes are stopped, so that a drift of the machine hits all alike. A contestant whose output is further from a
float64 computation than docs/numerics.md allows gets no time. Times are of one call, warm: the minimum and the median over
the rounds. A ratio is the time of a peer over the time of libattention, the fastest variant of each (by the median): above 1,
libattention is faster. The ratio of the medians is what a user of this machine sees; that of the minimums suffers less from its other guests.
"""
import argparse
import ctypes
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = "libattention"
PEERS = {"keras": "Keras", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
SCORES = ("luong", "bahdanau")
DIRECTIONS = ("forward", "training")
WORKLOADS = {  # batch, timesteps, features, units
    "imdb": (64, 500, 100, 128),
    "imdb_one": (1, 500, 100, 128),
    "imdb_stream": (1024, 500, 100, 128),
    "add_two_numbers": (64, 20, 100, 128),
    "find_max": (32, 10, 128, 128),
    "long": (4, 8192, 128, 128),
    "wide": (16, 256, 1024, 128),
}
LEAST_ROUNDS = 5
DISTURBED = 0.1  # processors; what the clock's steps and the system's own threads come to is less


def die_with_parent():
    """A stopped process would never see that its requests have ended."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Worker:
    """A software in its process, which is stopped while nothing is asked of it: ONNX Runtime's idle threads spin for 40 ms, PyTorch's for 8."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), CUDA_VISIBLE_DEVICES="")
        self.log = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen([*command, str(threads)], cwd=HERE, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, preexec_fn=die_with_parent)
        hello = self.answer()
        self.software, self.version, self.directions = hello["software"], hello["version"], hello["directions"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{' '.join(self.process.args)} ended:\n{self.log.read()[-2000:]}")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def ask(self, *words):
        self.process.send_signal(signal.SIGCONT)
        print(*words, file=self.process.stdin, flush=True)
        answer = self.answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


class Contestant:
    """One variant of a software on one case."""

    def __init__(self, worker, index, variant, error_over_gate):
        self.worker, self.index = worker, index
        self.row = {"software": worker.software, "variant": variant, "error_over_gate": error_over_gate}
        self.times = []

    def time_batch(self, warm_seconds, count):
        return self.worker.ask("time", self.index, warm_seconds, count)["seconds"] / count

    def calibrate(self, options):
        self.count = 1
        for _ in range(2):  # the first estimate may have met a cold start
            seconds = self.time_batch(options.warm_ms / 1e3, self.count)
            self.count = max(1, round(options.batch_ms / 1e3 / seconds))

    def summary(self):
        quartiles = statistics.quantiles(self.times, n=4)
        return {**self.row, "minimum": min(self.times), "median": statistics.median(self.times),
                "spread": (quartiles[2] - quartiles[0]) / statistics.median(self.times), "rounds": len(self.times), "calls": self.count}


def processor_seconds(pid):
    """What a process has spent, in steps of 10 ms."""
    with open(f"/proc/{pid}/stat") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def spent_by_others(workers):
    """Processor seconds, since some beginning, that went to anything but this comparison, other virtual machines included."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, stolen = map(int, file.readline().split()[1:9])
    busy = (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - processor_seconds(os.getpid()) - sum(processor_seconds(worker.process.pid) for worker in workers)


def progress(text):
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


def check_variants(worker, case, directory, reference, expected):
    """The contestants of a worker, and the rows of those which may not be timed."""
    try:
        variants = worker.ask("case", *case, directory)["variants"]
    except RuntimeError as error:
        return [], [{"software": worker.software, "variant": "", "failure": str(error)}]
    contestants, failures = [], []
    file = os.path.join(directory, "output.f32")
    for index, variant in enumerate(variants):
        try:
            worker.ask("output", index, file)
            error = reference.error_over_bound(file, *expected)
            if error <= 1:
                contestants.append(Contestant(worker, index, variant, error))
                continue
            failure = f"wrong result: {error:.3g} times its bound"
        except RuntimeError as refusal:
            failure = str(refusal)
        failures.append({"software": worker.software, "variant": variant, "failure": failure})
    return contestants, failures


def time_rounds(contestants, options, label):
    """Each contestant in turn, the first one another in every round."""
    deadline = time.monotonic() + options.seconds
    for round_number in range(options.rounds):
        if round_number >= LEAST_ROUNDS and time.monotonic() > deadline:
            break
        progress(f"{label}: round {round_number + 1} of {options.rounds}")
        first = round_number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            contestant.times.append(contestant.time_batch(options.warm_ms / 1e3, contestant.count))


def run_case(workers, name, shape, score, direction, options):
    import reference  # needs numpy, --help does not
    from protocol import Case
    case = Case(score, direction, *shape)

    def prepare(directory):
        tensors = reference.make_inputs(case, options.seed)
        reference.write_inputs(tensors, directory)
        return reference.expected(case, tensors)
    return run_row(workers, name, case, prepare, options, lambda contestant: contestant.calibrate(options))


def run_model(workers, direction, options):
    import model

    def set_count(contestant):
        contestant.count = options.batches
    row = run_row(workers, "imdb_model", model.case(direction), model.write_inputs, options, set_count)
    return model.passes(row, options.batches)


def run_row(workers, name, case, prepare, options, set_count):
    """prepare(directory) writes the inputs there and answers what reference.error_over_bound takes."""
    import reference
    direction = case.direction
    label = f"{name} {case.score} {direction}"
    with tempfile.TemporaryDirectory() as directory:
        progress(label + ": inputs and the float64 result")
        expected = prepare(directory)
        contestants, rows = [], []
        for worker in workers:
            if direction not in worker.directions:
                continue
            progress(f"{label}: {worker.software} compiles")
            good, bad = check_variants(worker, case, directory, reference, expected)
            contestants += good
            rows += bad
    began, others = time.monotonic(), spent_by_others(workers)
    for contestant in contestants:
        set_count(contestant)
    if contestants:
        time_rounds(contestants, options, label)
    others = (spent_by_others(workers) - others) / (time.monotonic() - began)
    progress("")
    return {"workload": name, **case._asdict(), "dtype": "float32", "threads": options.threads, "others_processors": others,
            "contestants": [contestant.summary() for contestant in contestants] + rows}


def fastest(row, software):
    timed = [c for c in row["contestants"] if c["software"] == software and "median" in c]
    return min(timed, key=lambda c: c["median"], default=None)


def duration(seconds):
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def detail_lines(row):
    yield "{workload}, {score}, {direction}: B={batch} T={timesteps} D={features} U={units}, {dtype}, {threads} threads".format(**row)
    if "extrapolated" in row:
        yield "  " + row["extrapolated"]
    width = max(len(c["variant"]) for c in row["contestants"])
    yield f"  {'software':13} {'variant':{width}} {'minimum':>10} {'median':>10} {'spread':>7} {'/ ours':>8} {'error/gate':>10}"
    ours = fastest(row, OURS)
    for c in row["contestants"]:
        if "failure" in c:
            yield f"  {c['software']:13} {c['variant']:{width}} {c['failure']}"
            continue
        ratio = f"{c['median'] / ours['median']:.2f}x" if ours else "-"
        yield (f"  {c['software']:13} {c['variant']:{width}} {duration(c['minimum']):>10} {duration(c['median']):>10} "
               f"{c['spread']:7.1%} {ratio:>8} {c['error_over_gate']:10.2g}")
    if row["others_processors"] > DISTURBED:
        yield f"  disturbed: something else kept {row['others_processors']:.1f} processors busy meanwhile"


def side_by_side_lines(rows):
    yield f"{'':37} {OURS:>12}" + "".join(f" {name:>25}" for name in PEERS.values())
    yield f"{'':37} {'median':>12}" + f" {'median':>9} {'ratio':>7} {'of min.':>7}" * len(PEERS)
    for row in rows:
        ours = fastest(row, OURS)
        line = f"{row['workload']:16} {row['score']:9} {row['direction']:10} {duration(ours['median']) if ours else '-':>12}"
        for name in PEERS.values():
            peer = fastest(row, name)
            ratios = [f"{peer[of] / ours[of]:.2f}x" if peer and ours else "-" for of in ("median", "minimum")]
            line += f" {duration(peer['median']) if peer else '-':>9} {ratios[0]:>7} {ratios[1]:>7}"
        yield line


def commit():
    try:
        described = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {"cpu": model, "processors": len(os.sched_getaffinity(0)), "system": f"{platform.system()} {platform.machine()}",
            "commit": commit(), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "environment": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}}


def header_lines(results):
    for name, value in {**results["machine"], **results["software"]}.items():
        if value:
            yield f"{name:13} {value}"


def report(results, details):
    lines = [*header_lines(results), ""]
    for row in details:
        lines += [*detail_lines(row), ""]
    lines.append("Side by side: the fastest variant of each, and how many times ours it takes, by the medians and by the minimums")
    return "\n".join([*lines, *side_by_side_lines(results["rows"]), ""])


def identity(row):
    return tuple(row[key] for key in ("workload", "score", "direction", "batch", "timesteps", "features", "units", "threads"))


def merge_rows(old, new):
    """The new rows in the places of old ones of the same case, the rest behind."""
    rows = {identity(row): row for row in old}
    rows.update({identity(row): row for row in new})
    return list(rows.values())


def parse_shape(text):
    sizes = tuple(int(word) for word in text.split("x"))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError("four sizes are wanted, such as 64x500x100x128")
    return sizes


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="workloads (BxTxDxU): " + ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in WORKLOADS.items()))
    add = parser.add_argument
    add("--workload", action="append", choices=WORKLOADS, metavar="NAME", help="only this one; may be repeated (default: all)")
    add("--shape", action="append", type=parse_shape, default=[], metavar="BxTxDxU", help="a shape of your own; may be repeated")
    add("--score", action="append", choices=SCORES, help="only this one (default: both)")
    add("--direction", action="append", choices=DIRECTIONS,
        help="only this one (default: both); training is forward and backward, with the gradients by the input and all weights")
    add("--model", action="store_true", help="instead: an epoch of training upstream's IMDB model, and its test pass, against Keras")
    add("--batches", type=int, default=5, help="of the model in a round (default: %(default)s; an epoch has 391)")
    add("--peer", action="append", choices=PEERS, help="only this one, may be repeated (default: all)")
    add("--no-ours", action="store_true", help="leave libattention out")
    add("--threads", type=int, default=2, help="for every software (default: %(default)s)")
    add("--rounds", type=int, default=25, help="at most (default: %(default)s)")
    add("--seconds", type=float, default=10, help=f"spent on the rounds of a case, once there are {LEAST_ROUNDS} (default: %(default)s)")
    add("--batch-ms", type=float, default=10, help="of calls in a round, at least one call (default: %(default)s)")
    add("--warm-ms", type=float, default=5, help="of untimed calls before them, at least one call (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the inputs (default: %(default)s)")
    add("--json", metavar="FILE", help="write the results there")
    add("--update", action="store_true", help="keep the rows of other cases that the --json file has, and report them too")
    add("--text", metavar="FILE", help="write the report there as well")
    add("--environments", default=os.path.join(HERE, "..", "..", ".venv-peers"), help=argparse.SUPPRESS)
    add("--ours", metavar="PROGRAM", help=argparse.SUPPRESS)
    return parser.parse_args()


def start_workers(options):
    peers = [peer for peer in options.peer or PEERS if not options.model or peer == "keras"]
    suffix = "_model" if options.model else ""
    commands = [[os.path.join(options.environments, peer, "bin", "python"), f"peer_{peer}{suffix}.py"] for peer in peers]
    if not options.no_ours:
        commands.insert(0, [options.ours + suffix])
    for command in commands:
        progress(f"starting {command[-1]}")
        yield Worker(command, options.threads)


def run_rows(workers, options):
    if options.model:
        from model import DIRECTIONS as directions
        for direction in directions:
            yield run_model(workers, direction, options)
        return
    shapes = {name: WORKLOADS[name] for name in options.workload or ([] if options.shape else WORKLOADS)}
    shapes.update({"x".join(map(str, shape)): shape for shape in options.shape})
    for name, shape in shapes.items():
        for score in options.score or SCORES:
            for direction in options.direction or DIRECTIONS:
                yield run_case(workers, name, shape, score, direction, options)


def main():
    options = parse_options()
    for file in filter(None, (options.json, options.text)):
        open(file, "a").close()  # a file that can't be written shall not cost a long run
    workers = list(start_workers(options))
    results = {"machine": machine(), "software": {worker.software: worker.version for worker in workers}, "rows": []}
    earlier = []
    if options.update and options.json and os.path.getsize(options.json):
        with open(options.json) as file:
            earlier = json.load(file)["rows"]
    for row in run_rows(workers, options):
        results["rows"].append(row)
        print(*detail_lines(row), "", sep="\n", flush=True)
    for worker in workers:
        worker.close()
    failed = any("failure" in c for row in results["rows"] for c in row["contestants"])
    results["rows"] = merge_rows(earlier, results["rows"])
    print(report(results, details=[]), end="")
    if options.text:
        with open(options.text, "w") as file:
            file.write(report(results, details=results["rows"]))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
