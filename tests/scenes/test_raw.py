"""What the readers share: streaming JSON within limits, error messages, validated values."""

import io
import json

import pytest

from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.scenes import raw


def write(tmp_path, data: bytes):
    path = tmp_path / "file.json"
    path.write_bytes(data)
    return path


def test_stream(tmp_path):
    path = write(tmp_path, b'{"info": 1, "clips": [{"a": 1}, {"a": [2.5, "x"]}]}')
    assert list(raw.stream(path, "clips.item")) == [{"a": 1}, {"a": [2.5, "x"]}]
    with pytest.raises(BadData, match="file.json: holds no records at 'videos'"):
        list(raw.stream(path, "videos.item"))
    with pytest.raises(BadData, match="cannot be read"):
        list(raw.stream(tmp_path, "videos.item"))


@pytest.mark.parametrize(
    "tail, message",
    [
        (b'{"a": ', "not JSON after record 1 (parse error: premature EOF)"),
        (b"[" * 200 + b"]" * 200 + b"]}", "not JSON after record 1 (nested more than 100 deep)"),
        (b'"' + b"x" * (2 << 20) + b'"]}', "not JSON after record 1 (a text of more than 1048576 bytes)"),
        (b"9" * 6000 + b"]}", "not JSON after record 1 (parse error: integer overflow"),
    ],
)
def test_stream_stops_where_a_file_breaks_or_goes_beyond_the_limits(tmp_path, tail, message):
    # 100 kB in front, so that the first record comes before the chunk that breaks
    path = write(tmp_path, b'{"clips": [1, ' + b" " * 100_000 + tail)
    errors = []
    seen = list(raw.stream(path, "clips.item", errors.append))
    assert seen == [1] and len(errors) == 1
    assert str(errors[0]).startswith(f"{path}: {message}")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_depth_is_counted_outside_texts_whatever_the_chunks(size):
    value = {"a": ["[[[[", '\\" {{{', {"b [{ \\\\": [1]}], "c": "]]]"}
    file = raw.Shallow(io.BytesIO(json.dumps(value).encode()))
    deepest = 0
    while file.read(size):
        deepest = max(deepest, file._depth)
    assert file._depth == 0 and file._open == b""
    assert deepest == (4 if size == 1 else deepest) and deepest <= 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: raw.number(True, "n"), lambda: raw.number("1", "n"), lambda: raw.number(float("nan"), "n"), lambda: raw.number(10**400, "n"),
        lambda: raw.integer(1.5, "n"), lambda: raw.integer("x", "n"), lambda: raw.integer(-1, "n"), lambda: raw.integer("9" * 5000, "n"),
        lambda: raw.text("", "n"), lambda: raw.text(3, "n"), lambda: raw.text("x" * 10_001, "n"), lambda: raw.mapping([], "n"),
        lambda: raw.sequence({}, "n"), lambda: raw.side(0, "n"), lambda: raw.side(32_769, "n"),
    ],
)
def test_values_out_of_range_are_named_in_one_short_line(call):
    with pytest.raises(BadRecord, match="^n must be") as caught:
        call()
    assert len(str(caught.value)) < 250


def test_values_in_range():
    assert raw.integer("12", "n") == 12 and raw.integer(3.0, "n") == 3 and raw.number(2, "n") == 2.0
    assert raw.text(" a ", "n") == "a" and raw.sequence(None, "n") == []


def test_attempt_turns_everything_into_one_error_at_its_place():
    def fail(error):
        def make():
            raise error
        return make

    for error in (KeyError("size"), TypeError("x"), ValueError("y"), BadData("z"), RecursionError("deep"), OverflowError("big")):
        with pytest.raises(EgohoiError, match=r"^file: record 3: "):
            raw.attempt(fail(error), "file: record 3")
        errors = []
        assert raw.attempt(fail(error), "file: record 3", errors.append) is None and len(errors) == 1
    assert raw.attempt(lambda: 7, "file") == 7
