"""The README's table of figures: what each benchmark claims, beside what was measured last with ``FULL=1``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
BEGIN, END = "<!-- figures: written by FULL=1 make bench -->", "<!-- end of figures -->"

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        what: What was measured, for people.
        benchmark: The module that measures it.
        figure: Its name there.
        asked: What it has to be, for people.
        unit: Printed after the figure.
    """

    what: str
    benchmark: str
    figure: str
    asked: str
    unit: str = ""


CLAIMS = (
    Claim("Evaluating sub-networks, three rounds, over one by one (eager)", "evaluation", "speedup", ">= 8", "x"),
    Claim("the same with BN recalibrated per sub-network", "evaluation", "speedup_recalibrated", ">= 10", "x"),
    Claim("time with recalibrated over running BN", "evaluation", "recalibrated_over_running", "<= 1.6"),
    Claim("predicted labels that agree", "evaluation", "label_agreement", ">= 0.9999"),
    Claim("multi-adds of the plain way per second, over the GEMM peak", "evaluation", "fraction_of_gemm_peak", ""),
    Claim("GCN epoch over PyG's `GCNConv` with CSR, 6^7 nodes", "gcn", "speedup_per_epoch", ">= 80", "x"),
    Claim("600 epochs", "gcn", "fit_600_epochs_s", "<= 100", " s"),
    Claim("whole table of 6^7 predicted", "gcn", "predict_s", "<= 4", " s"),
    Claim("peak memory of fit and prediction", "gcn", "peak_rss_mb", "<= 1200", " MB"),
    Claim("6^8 nodes predicted", "gcn", "predict_6_8_s", "<= 40", " s"),
    Claim("peak memory of that", "gcn", "peak_rss_6_8_mb", "<= 2000", " MB"),
    Claim("an epoch on the whole 6^19 space", "gcn", "fit_whole_space_epoch_s", "", " s"),
    Claim("Publishing 279,936 rows until a limit on a latency is answered", "publish", "publish_s", "<= 4", " s"),
    Claim("Lookup at the API among 28M rows, p50", "lookup", "p50_ms", "<= 5", " ms"),
    Claim("p99", "lookup", "p99_ms", "<= 15", " ms"),
    Claim("eight connections", "lookup", "requests_per_s", ">= 500", " /s"),
    Claim("wrong answers", "lookup", "wrong", "0"),
    Claim("under limits on a device's latency and multi-adds, p50", "lookup", "latency_p50_ms", "", " ms"),
    Claim("Whole space (6^19) under any limits at the API, at most", "space_lookup", "api_ms_max", "<= 50", " ms"),
    Claim("a model with a GCN of 2 x 128 units, p99", "space_lookup", "query_ms_p99", "<= 50", " ms"),
    Claim("of 2 x 512 units, p99", "space_lookup", "query_512_ms_p99", "<= 50", " ms"),
    Claim("points below the best predicted architecture, at most", "space_lookup", "max_gap_points", "<= 0.05"),
    Claim("new labels inside 90 % intervals of answers far from the pairs", "space_lookup", "answers_coverage_90", ""),
    Claim(
        "The blend (`auto` with true labels) over the better of ridge and the paper's GCN, tau, mean of 16 regimes",
        "predictor",
        "mean_margin",
        ">= 0.02",
    ),
    Claim("the worst of the regimes", "predictor", "worst_margin", ">= -0.005"),
    Claim("new labels inside its 90 % intervals", "predictor", "coverage_90", "0.87 to 0.93"),
    Claim("over the better of both on 6^5 with strong interactions", "predictor", "synthetic_mean_margin", "> 0"),
    Claim("the worst of the six regimes", "predictor", "synthetic_worst_margin", ">= -0.005"),
    Claim(
        "The nearly additive process (`auto` on a supernet's pairs alone; here all interactions are real), mean",
        "predictor",
        "inherited_mean_margin",
        "",
    ),
    Claim("new labels inside its 90 % intervals", "predictor", "inherited_coverage_90", "0.87 to 0.93"),
    Claim("Faults under running searches", "fault_soak", "faults", ">= 60"),
    Claim("searches lost, or with another result", "fault_soak", "different", "0"),
    Claim("Tau against the truth of NAS-Bench-Macro, CIFAR-10", "nas_bench_macro", "tau_predicted", ">= 0.80"),
    Claim("with 32 true labels", "nas_bench_macro", "labels_32_tau_predicted", ">= 0.83"),
    Claim("architectures better than the final one", "nas_bench_macro", "final_percentile", "<= 0.5", " %"),
    Claim("Hostile requests, data sets and checkpoints", "hostile", "tried", ""),
    Claim("that ended in a clear error (all but honest odd ones, which are accepted)", "hostile", "clear_errors", ""),
    Claim("crashes", "hostile", "crashes", "0"),
    Claim("hangs", "hostile", "hangs", "0"),
    Claim("1,000 searches, 200 clients, 20 followers: p99 of a read", "capacity", "p99_ms", "<= 100", " ms"),
    Claim("p99 of the first read of each", "capacity", "cold_p99_ms", "", " ms"),
    Claim("errors", "capacity", "errors", "0"),
    Claim("Supernet training over a plain eager loop, images per second", "training", "speedup", ">= 2", "x"),
    Claim("share of the time spent on input", "training", "input_share", ""),
    Claim("Evaluation with two workers over one", "scaling", "speedup_two_workers", ">= 1.7", "x"),
)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the claims that were measured, as a Markdown table."""
    lines = ["| | measured | asked | `python -m benchmarks.` |", "|---|---|---|---|"]
    for claim in CLAIMS:
        value = results.get(claim.benchmark, {}).get(claim.figure)
        if value is not None:
            lines.append(f"| {claim.what} | {value:,}{claim.unit} | {claim.asked} | {claim.benchmark} |")
    return "\n".join(lines)


def write(results: Results) -> None:
    """Keep figures of full size, and write all that are kept into the README."""
    kept: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept |= results
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md has no place for the figures: it lacks the lines {BEGIN} and {END}")
    readme.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{after}")
