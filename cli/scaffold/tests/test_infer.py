import polars as pl
import pytest

from cli.scaffold import infer
from cli.scaffold.sniff import sniff
from phaseflow import checks
from phaseflow.toolkit.delimited import Dialect, table


def column(values, name="x", decimal="."):
    cells = table(("x\n" + "\n".join(f'"{value}"' for value in values)).encode(), Dialect())["x"]
    return infer.column(cells, name, decimal)


@pytest.mark.parametrize(
    ("values", "kind", "function", "arguments"),
    [
        (["1", "2", "2", "5"] * 10, "integer", "integer", {}),
        (["1.5", "2", "", "5"] * 10, "number", "number", {}),
        (["1.0", "2.0", "NA", "5.0"] * 10, "number", "number", {}),
        (["1,5", "2,25", "-7", "5"] * 10, "number", "number", {"decimal": ","}),
        (["1,234.50", "12", "2,000.25", "3"] * 10, "number", "number", {}),
        (["$1,200", "$15", "$9", "$33"] * 10, "integer", "integer", {"unit": "$"}),
        (["3.5%", "4%", "?", "1%"] * 10, "number", "number", {"unit": "%"}),
        (["21.1 kmpl", "18 kmpl", "9.5 kmpl", "-"] * 10, "number", "number", {"unit": "kmpl"}),
        (["36 months", "60 months"] * 10, "integer", "integer", {"unit": "months"}),
        ([*[str(number) for number in range(40)], *["unknown"] * 9], "integer", "integer", {"missing": ("unknown",)}),
        (["yes", "no", "Yes", "NO", ""] * 10, "boolean", "boolean", {}),
        (["true", "false"] * 10, "boolean", "boolean", {}),
        (["Y", "N", "N"] * 10, "boolean", "boolean", {}),
        (["0", "1", "1"] * 10, "integer", "integer", {}),
        (["Yes", "No", "No phone"] * 10, "category", "text", {}),
        (["0123", "0456", "0789"] * 10, "category", "text", {}),
        (["Q1", "Q2", "Q3", "Q4"] * 10, "category", "text", {}),
        ([f"2020-01-{day:02d}" for day in range(1, 29)], "date", "date", {"pattern": "%Y-%m-%d"}),
        ([f"{day:02d}.03.2021" for day in range(1, 29)], "date", "date", {"pattern": "%d.%m.%Y"}),
        ([f"{day}/3/2021" for day in range(1, 29)], "date", "date", {"pattern": "%d/%m/%Y"}),
        ([f"3/{day}/21" for day in range(1, 29)], "date", "date", {"pattern": "%m/%d/%y"}),
        ([f"201405{day:02d}T000000" for day in range(1, 29)], "date", "date", {"pattern": "%Y%m%dT%H%M%S"}),
        ([f"201405{day:02d}" for day in range(1, 29)], "date", "date", {"pattern": "%Y%m%d"}),
        ([f"2020-01-{day:02d}T10:00:00Z" for day in range(1, 29)], "date", "date", {"pattern": "%Y-%m-%dT%H:%M:%S%z"}),
        ([f"{day:02d}-Jan-2020" for day in range(1, 29)], "date", "date", {"pattern": "%d-%b-%Y"}),
        ([f"{hour}:30" for hour in range(24)] * 2, "number", "clock", {"pattern": "%H:%M"}),
    ],
)
def test_the_kind_of_a_column(values, kind, function, arguments):
    inferred = column(values)
    assert (inferred.kind, inferred.reader.function, dict(inferred.reader.arguments)) == (kind, function, arguments)


@pytest.mark.parametrize(
    ("values", "name", "note"),
    [
        (["", "NA", "?"] * 10, "x", "empty"),
        (["7"] * 30, "x", "always '7'"),
        (list(range(100, 160)), "x", "a row number"),
        ([number * 7 for number in range(60)], "customer_id", "an identifier: differs in every row"),
        ([f"{number:05d}-AB" for number in range(60)], "x", "an identifier: 60 values in 60 rows"),
        ([f"some words that nobody wrote {number}" for number in range(60)], "x", "free text: 60 values in 60 rows"),
        ([f"v{number % 80}" for number in range(160)], "x", "80 values, most of them rare"),
        (["1e300", "2e300", "3"] * 10, "x", "beyond what 32-bit floats hold"),
    ],
)
def test_dropped_columns(values, name, note):
    inferred = column(values, name)
    assert (inferred.kind, inferred.note) == ("dropped", note)


def test_consecutive_years_are_not_row_numbers():
    assert column(list(range(1950, 2010)), "year").kind == "integer"


def test_frequent_values_among_many_are_kept():
    assert column(["often", "also"] * 100 + [f"rare{number}" for number in range(60)]).kind == "category"


def test_names_are_valid_distinct_and_not_reserved():
    odd = [
        "id",
        "ID",
        "",
        "class",
        "Größe (m²)",
        "1st Flr SF",
        "π",
        "MSSubClass",
        "x" * 200,
        "x" * 201,
        "a b",
        "a-b",
        "_key",
    ]
    names = infer.names(odd)
    for name in names:
        checks.name("name", name)
    assert len(set(names)) == len(names)
    assert names[:8] == ["id_", "id_2", "column_3", "class_", "grosse_m2", "n_1st_flr_sf", "column_7", "ms_sub_class"]
    assert not set(names) & infer.RESERVED


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"a,b\n1,2\n", Dialect()),
        (b"\xef\xbb\xbfa,b\n1,2\n", Dialect(encoding="utf-8-sig")),
        ("a;b\nä;1,5\n".encode("latin-1"), Dialect(encoding="cp1252", separator=";")),
        (b"a;b;c\n1,5;2,5;3,5\n4,5;5,5;6,5\n", Dialect(separator=";")),
        (b"a;b\n1,5;2\n4,5;5\n", Dialect(separator=";")),
        (b'a\tb\n"x\ny"\t2\n', Dialect(separator="\t")),
        (b"sep=|\na|b\n1|2\n", Dialect(separator="|", skip=1)),
        (b"# made by a tool\na,b\n1,2\n", Dialect(skip=1)),
        (b"Sales of 2020\n\na,b,c\n1,2,3\n4,5,6\n", Dialect(skip=2)),
        (b'a\tb\n5" pipe\t"x\n"y\tz\n', Dialect(separator="\t", quoted=False)),
        ("a\tb\n1\t2\n".encode("utf-16"), Dialect(encoding="utf-16", separator="\t")),
    ],
)
def test_the_dialect_of_a_file(content, dialect):
    assert sniff(content) == dialect


def test_a_file_with_row_names_and_no_header_for_them():
    assert table(b'a,b\n"1",5,6\n"2",7,8\n', Dialect()).to_dict(as_series=False) == {
        "column_1": ["1", "2"],
        "a": ["5", "7"],
        "b": ["6", "8"],
    }


def test_a_separator_at_the_end_of_each_row():
    assert table(b"a,b\n5,6,\n7,8,\n", Dialect()).columns == ["a", "b", "column_3"]


def test_the_decimal_mark_of_the_file_decides_ambiguous_columns():
    cells = pl.DataFrame({"price": ["1.234", "5.678"], "weight": ["1,5", "2,75"]})
    assert infer.decimal_mark(cells, ";") == ","
