"""Files and folders become examples; what is wrong is named with file, line and remedy."""

import json
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmagentos.corpus import Example, read_silos
from llmagentos.corpus.columns import read_examples
from llmagentos.corpus.own import own_examples
from llmagentos.errors import CorpusError, SettingError
from llmagentos.settings import CorpusSettings, PartitionSettings

PAIRS = [{"prompt": f"q{i}", "response": f"a{i}", "site": "north"} for i in range(6)]
EXAMPLES = [(row["prompt"], row["response"]) for row in PAIRS]


def _write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def _jsonl(path, rows):
    return _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _csv(path, rows):
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    return _write(path, "\n".join(lines) + "\n")


def _tsv(path, rows):
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    return _write(path, "\r\n".join(lines))


def _parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def _pairs(source, **settings):
    found = read_examples(source, CorpusSettings(**settings))
    return [(example.prompt, example.response) for example in found]


def _error(source, **settings):
    with pytest.raises(CorpusError) as caught:
        read_examples(source, CorpusSettings(**settings))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "write"),
    [("x.jsonl", _jsonl), ("x.csv", _csv), ("x.tsv", _tsv), ("x.parquet", _parquet)],
)
def test_every_kind_of_file_gives_the_same_examples(tmp_path, name, write):
    assert _pairs(write(tmp_path / name, PAIRS)) == EXAMPLES


def test_a_text_file_is_a_row_a_line_and_skips_blank_ones(tmp_path, caplog):
    source = _write(tmp_path / "x.txt", "\ufeffone\n\ntwo\r\n")
    assert _pairs(source) == [("", "one"), ("", "two")]
    assert "1 of 3 rows are empty and left out" in caplog.text


def test_a_folder_is_its_files_by_name_and_each_is_a_group(tmp_path):
    _jsonl(tmp_path / "b.jsonl", PAIRS[:2])
    _csv(tmp_path / "a.csv", PAIRS[2:])
    (tmp_path / "README.md").touch()
    assert _pairs(str(tmp_path)) == EXAMPLES[2:] + EXAMPLES[:2]
    silos = read_silos(CorpusSettings(str(tmp_path), partition=PartitionSettings(agents=2)), 0)
    assert {name: len(rows) for name, rows in silos.items()} == {"a": 4, "b": 2}


def test_a_datasets_folder_and_its_train_split_are_read(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(PAIRS)
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "split")
    datasets.DatasetDict({"test": rows}).save_to_disk(tmp_path / "test")
    assert _pairs(str(tmp_path / "one")) == _pairs(str(tmp_path / "split")) == EXAMPLES
    assert "no split called train" in _error(str(tmp_path / "test"))


def test_a_hub_without_a_way_to_it_says_what_to_do(monkeypatch):
    import datasets

    def load_dataset(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert "hub:org/set: no route; check the name and the way" in _error("hub:org/set")


def test_every_agent_reads_its_own_file(tmp_path):
    agents = {
        "ward": _jsonl(tmp_path / "x.jsonl", PAIRS[:3]),
        "branch": _csv(tmp_path / "x.csv", PAIRS[3:]),
    }
    silos = read_silos(CorpusSettings(agents=agents), 0)
    assert [len(silos["ward"]), len(silos["branch"])] == [3, 3]


def test_chat_messages_end_with_the_last_answer(tmp_path):
    turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "thanks")]
    messages = [{"role": role, "content": content} for role, content in turns]
    source = _jsonl(tmp_path / "x.jsonl", [{"messages": messages}, {"messages": messages[:2]}])
    (example,) = read_examples(source, CorpusSettings())
    assert example == Example("u", "a", tuple(turns[:3]), "x")


def test_an_example_knows_its_file_and_line(tmp_path):
    path = _jsonl(tmp_path / "x.jsonl", PAIRS)
    chats = [{"messages": [{"role": "assistant", "content": row["response"]}]} for row in PAIRS]
    spoken = _jsonl(tmp_path / "chats.jsonl", chats)
    for file in (path, spoken):
        examples = read_examples(file, CorpusSettings())
        assert [row.where for row in examples] == [f"{file}, line {i}" for i in range(1, 7)]
    (first, *_) = own_examples(path, lambda row: Example(row["prompt"], row["response"]))
    assert first.where == f"{path}, line 1"


def test_named_columns_are_taken_as_they_are(tmp_path):
    source = _jsonl(tmp_path / "x.jsonl", [{"term": "q", "code": "a", "text": "t"}])
    assert _pairs(source, prompt="term", response="code") == [("q", "a")]
    assert _pairs(source, text="code") == [("", "a")]


def test_blank_prompts_and_null_responses_are_left_out(tmp_path):
    rows = [{"prompt": " ", "response": "a"}, {"prompt": "q", "response": None}, PAIRS[0]]
    assert _pairs(_jsonl(tmp_path / "x.jsonl", rows)) == [("q0", "a0")]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        (
            "x.jsonl",
            b'{"text": "a"}\n{"text": "\xe9"}\n',
            {},
            "byte 0xe9 at column 11 is not UTF-8",
        ),
        ("x.txt", b"fine\n\xff\n", {}, "x.txt, line 2: byte 0xff at column 1 is not UTF-8"),
        ("x.csv", b"text\nfine\n\xff\n", {}, "x.csv, line 3: byte 0xff"),
        ("x.jsonl", '{"text": "a"}\n\n{"text":\n', {}, "x.jsonl, line 3: not JSON"),
        (
            "x.jsonl",
            '{"text": "a"}\n{"text": "cut \\ud83d"}\n',
            {},
            "line 2: not JSON ('utf-8' codec",
        ),
        ("x.jsonl", '{"messages": [{"\\uDE00": 1}]}\n', {}, "surrogates not allowed"),
        ("x.jsonl", '{"text": "a", "text": "b"}\n', {}, "a name twice among 'text', 'text'"),
        ("x.jsonl", "[" * 100_000, {}, "line 1: not JSON (nested too deeply)"),
        ("x.jsonl", "[1]\n", {}, "x.jsonl, line 1: holds a list; need one object a line"),
        (
            "x.jsonl",
            '{"text": "a"}\n{"txt": "b"}\n',
            {},
            "line 2: no column 'text' among txt",
        ),
        ("x.jsonl", '{"text": 3}\n', {}, "line 1: column 'text' holds '3' (int); need text"),
        ("x.jsonl", '{"body": "a"}\n', {}, "none of the columns body is known; set corpus.text"),
        ("x.jsonl", '{"body": "a"}\n', {"text": "bdy"}, "did you mean 'body'?"),
        (
            "x.jsonl",
            '{"question": "a", "input": "b", "text": "c"}\n',
            {},
            "set corpus.prompt to",
        ),
        ("x.jsonl", '{"messages": "hi"}\n', {}, "column 'messages' holds 'hi'; need a list of"),
        ("x.jsonl", '{"messages": [{"role": "user"}]}\n', {}, "need a list of"),
        ("x.jsonl", "", {}, "x.jsonl: is empty"),
        ("x.csv", "text\n", {}, "x.csv: is empty"),
        ("x.csv", "", {}, "x.csv: is empty"),
        ("x.txt", "\n \n", {}, "x.txt: no usable row of 2"),
        ("x.csv", "prompt,response\na,b\nc\n", {}, "line 3: 1 fields, but the header has 2; quote"),
        ("x.csv", 'text\n"a" b\n', {}, "x.csv, line 2: not CSV"),
        ("x.csv", "prompt;response\na;b\n", {}, "is parted by ';', not ','; save the file as .csv"),
        ("x.csv", "text,text\na,b\n", {}, "line 1: two columns are called 'text'; rename one"),
        ("x.csv", "text\nü\n".encode("utf-16"), {}, "iconv -f utf-16 -t utf-8"),
        ("x.parquet", "no", {}, "x.parquet: not a parquet file"),
        ("x.docx", "no", {}, "unknown kind '.docx'; store the text as .jsonl"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, name, content, settings, message):
    assert message in _error(_write(tmp_path / name, content), **settings)


def test_a_parquet_file_with_a_name_that_is_no_text_is_told(tmp_path):
    file = tmp_path / "x.parquet"
    _parquet(file, PAIRS)
    file.write_bytes(file.read_bytes().replace(b"site", b"\xffite"))
    assert "x.parquet: not a parquet file ('utf-8' codec" in _error(str(file))


def test_whole_letters_may_be_escaped(tmp_path):
    file = _write(tmp_path / "x.jsonl", '{"text": "\\ud83d\\uDE00 and \\\\ud83d"}\n')
    assert _pairs(file) == [("", "\N{GRINNING FACE} and \\ud83d")]


def test_what_cannot_be_opened_is_told(tmp_path):
    assert "File name too long" in _error("x" * 5000)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert "gone.txt: No such file or directory; mend it" in _error(str(tmp_path))
    (tmp_path / "a.jsonl").mkdir()
    assert "a.jsonl: Is a directory; mend it" in _error(str(tmp_path))


def test_a_missing_path_and_an_empty_folder_are_told(tmp_path):
    assert "none: no such file or folder" in _error(str(tmp_path / "none"))
    assert "no file of a known kind; need .jsonl" in _error(str(tmp_path))


def test_a_misspelt_corpus_and_repeated_rows_are_told(tmp_path):
    with pytest.raises(CorpusError, match=r"corpus.source='icd1O': .*; did you mean icd10\?"):
        read_silos(CorpusSettings("icd1O"), 0)
    alike = _jsonl(tmp_path / "x.jsonl", PAIRS[:1] * 50)
    with pytest.raises(CorpusError, match=r"'north' has 1 usable rows.*of its 50 rows, repeated"):
        read_silos(CorpusSettings(agents={"north": alike}), 0)


def test_text_that_is_there_twice_is_in_one_example_and_told_between_agents(tmp_path, caplog):
    for name in ("old.jsonl", "new.jsonl"):
        (tmp_path / "north").mkdir(exist_ok=True)
        _jsonl(tmp_path / "north" / name, PAIRS)
    south = _jsonl(tmp_path / "south.jsonl", PAIRS[4:])
    silos = read_silos(CorpusSettings(agents={"north": str(tmp_path / "north"), "south": south}), 0)
    assert {name: len(examples) for name, examples in silos.items()} == {"north": 6, "south": 2}
    assert "corpus.agents: 2 rows are in the text of several agents" in caplog.text


def test_rows_that_count_once_are_told_however_they_come_to_an_agent(tmp_path, caplog):
    file = _jsonl(tmp_path / "north.jsonl", PAIRS[:4] * 250)
    assert len(read_silos(CorpusSettings(agents={"desk": file}), 0)["desk"]) == 4
    read_silos(CorpusSettings(file, partition=PartitionSettings(agents=1)), 0)
    read_silos(CorpusSettings(file, partition=PartitionSettings("iid", agents=2)), 0)
    told = [f"{name}: 996 of 1000 rows" for name in ("desk", "north", "corpus.partition")]
    assert [f"{message} are repeated and count once" for message in told] == caplog.messages


def test_one_file_for_many_agents_is_told_how_to_deal_it_out(tmp_path):
    file = _jsonl(tmp_path / "chat.jsonl", PAIRS * 2)
    told = r"agents=4: the field has 1 values \(chat\); .*\(corpus\.partition\.by=iid\), set"
    with pytest.raises(CorpusError, match=told):
        read_silos(CorpusSettings(file), 0)
    assert (
        len(read_silos(CorpusSettings(file, partition=PartitionSettings("iid", agents=3)), 0)) == 3
    )


def test_a_file_without_repeated_rows_is_read_in_silence(tmp_path, caplog):
    read_silos(CorpusSettings(agents={"north": _jsonl(tmp_path / "x.jsonl", PAIRS)}), 0)
    assert caplog.messages == []


@pytest.mark.parametrize("by", ["field", "iid", "dirichlet", "quantity"])
def test_text_of_one_corpus_that_several_agents_get_is_told(tmp_path, caplog, by):
    rows = [row | {"site": site} for site in ("north", "south") for row in PAIRS]
    file = _jsonl(tmp_path / "x.jsonl", rows)
    partition = PartitionSettings(by, column="site", agents=2, alpha=5.0)
    silos = read_silos(CorpusSettings(file, partition=partition), 0)
    dealt = [example for examples in silos.values() for example in examples]
    shared = len(dealt) - len(set(dealt))
    assert shared == (6 if by == "field" else 0)
    told = "corpus.partition: 6 rows are in the text of several agents"
    assert (told in caplog.text) == (by == "field")


def test_two_files_that_would_be_one_agents_are_told(tmp_path):
    for name in ("north.csv", "north.jsonl", "south.txt"):
        (tmp_path / name).touch()
    (tmp_path / "north.csv").write_text("text\none\ntwo\n")
    (tmp_path / "north.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
    (tmp_path / "south.txt").write_text("five\n\nsix\n")
    with pytest.raises(CorpusError, match=r"north\.csv and north\.jsonl: .* of 'north'; rename"):
        read_silos(CorpusSettings(source=str(tmp_path)), 0)
    iid = PartitionSettings("iid", agents=2)
    assert len(read_silos(CorpusSettings(source=str(tmp_path), partition=iid), 0)) == 2
    one = CorpusSettings(agents={"all": str(tmp_path), "again": str(tmp_path)})
    assert len(read_silos(one, 0)["all"]) == 6


def test_a_row_that_is_nobodys_is_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "k": "x"}\n{"text": "b", "k": null}\n')
    partition = PartitionSettings("field", agents=1, column="k")
    with pytest.raises(CorpusError, match=r"rows\.jsonl, line 2: column 'k' is null, so the row"):
        read_silos(CorpusSettings(source=str(file), partition=partition), 0)


@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
def test_a_damaged_datasets_folder_is_told(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(CorpusError, match=re.escape(str(tmp_path))):
        read_silos(CorpusSettings(source=str(tmp_path)), 0)


def test_a_home_that_nobody_has_is_no_such_folder():
    with pytest.raises(CorpusError, match="no such file or folder"):
        read_silos(CorpusSettings(source="~nobody-at-all/rows.csv"), 0)


@pytest.mark.parametrize("name", ["Z\u00fcrich\u00a0Nord", "north\n", " ", "n" * 5000])
def test_a_value_that_cannot_name_an_agent_is_told(tmp_path, name):
    rows = [row | {"site": site} for site in (name, "south") for row in PAIRS]
    file = _jsonl(tmp_path / "x.jsonl", rows)
    by_site = PartitionSettings(column="site", agents=2)
    with pytest.raises(CorpusError) as caught:
        read_silos(CorpusSettings(file, partition=by_site), 0)
    assert f"corpus.partition.column='site': {name[:40]!r} cannot be" in str(caught.value)
    assert "change it in that column" in str(caught.value)
    assert read_silos(CorpusSettings(file, partition=PartitionSettings("iid", agents=2)), 0)
    one = PartitionSettings(column="site", groups=["south"])
    assert list(read_silos(CorpusSettings(file, partition=one), 0)) == ["south"]
    with pytest.raises(SettingError, match="a name is text that can be printed"):
        CorpusSettings(agents={name: file})


def test_a_file_whose_name_cannot_name_an_agent_is_told(tmp_path):
    _jsonl(tmp_path / "Bern\u00a0Ost.jsonl", PAIRS)
    with pytest.raises(CorpusError, match=r"'Bern\\xa0Ost' cannot be .*; rename the file"):
        read_silos(CorpusSettings(str(tmp_path), partition=PartitionSettings(agents=1)), 0)


def test_a_long_field_is_read_whole(tmp_path):
    file = _write(tmp_path / "x.csv", f"text\n{'a' * 200_000}\n")
    assert _pairs(file) == [("", "a" * 200_000)]


def test_two_kinds_of_columns_at_once_are_refused():
    with pytest.raises(SettingError, match="set one of these"):
        CorpusSettings(text="a", prompt="b")


def test_reading_imports_neither_torch_nor_transformers():
    program = (
        "import sys; from llmagentos.corpus import read_silos; "
        "from llmagentos.settings import CorpusSettings; "
        "read_silos(CorpusSettings('invented'), 0); "
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
