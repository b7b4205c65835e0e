"""The journal keeps every complete record, whatever moment its writer was killed at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import StoreError
from tasks.store.journal import Journal

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=300)), max_size=6)


@given(records=RECORDS)
def test_what_was_appended_is_read_in_order(tmp_path_factory, records):
    journal = Journal(tmp_path_factory.mktemp("journal") / "records.jsonl")
    for record in records:
        journal.append([record])
    assert list(journal.read()) == records


@given(records=RECORDS.filter(bool), cut=st.integers(min_value=0), later=RECORDS)
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_writer(tmp_path_factory, records, cut, later):
    journal = Journal(tmp_path_factory.mktemp("journal") / "records.jsonl")
    journal.append(records)
    whole = journal.path.read_bytes()
    torn = whole[: cut % len(whole)]
    journal.path.write_bytes(torn)
    kept = torn.count(b"\n")
    assert list(journal.read()) == records[:kept]
    journal.append(later)
    assert list(journal.read()) == records[:kept] + later


def test_a_torn_line_longer_than_the_search_window_is_cut_off(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append([{"a": 1}])
    with journal.path.open("ab") as file:
        file.write(b"x" * 200_000)
    journal.append([{"b": 2}])
    assert list(journal.read()) == [{"a": 1}, {"b": 2}]


def test_reading_goes_on_from_where_it_stopped(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append([{"a": 1}, {"a": 2}])
    offset = [end for _, end in journal.read_lines()][-1]
    journal.append([{"a": 3}])
    assert list(journal.read(offset)) == [{"a": 3}]


def test_damage_within_is_refused_with_its_place(tmp_path):
    journal = Journal(tmp_path / "records.jsonl")
    journal.append([{"a": 1}])
    with journal.path.open("ab") as file:
        file.write(b'{"b": \n{"c": 3}\n')
    with pytest.raises(StoreError, match="damaged at byte 8"):
        list(journal.read())
