"""The command: its output, its exit status and its errors."""

import json

import pytest

from cli.scaffold.__main__ import main
from cli.scaffold.tests.conftest import csv, points
from phaseflow import errors


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, str(errors.from_output(captured.err))


def test_the_command_prints_a_summary(tmp_path, capsys):
    (tmp_path / "f.csv").write_text(csv(["x", "c", "y"], points()))
    code, out, _ = run(capsys, "mine", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "projects")
    assert code == 0
    assert "regression of y; 80 rows, 2 features" in out
    assert "phaseflow run mine" in out
    code, out, _ = run(
        capsys, "two", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "projects", "--json"
    )
    summary = json.loads(out)
    assert (code, summary["project"], summary["task"], summary["metric"]) == (0, "two", "regression", "r2")
    assert [column["kind"] for column in summary["columns"]] == ["number", "category"]
    assert sorted(path.name for path in (tmp_path / "projects").iterdir()) == ["mine", "two"]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", [], "The file is empty. Give a CSV with a header and rows."),
        (b"\n \n", [], "The file is empty. Give a CSV with a header and rows."),
        (b"PK\x03\x04xxxx", [], "The file is an Excel workbook or a zip. Save it as CSV."),
        (b"x,y\n\0\0\0", [], "The file holds binary data. Save it as CSV in UTF-8."),
        (
            b"x,yield\n1,2\n",
            [],
            "The file has no column 'y'; found: x, yield. Give one of them, or add a header line if the file has none.",
        ),
        (b"x,yy\n1,2\n", [], "The file has no column 'y'; found: x, yy. Did you mean \"yy\"?"),
        (b"x,y\n1,2\n3,4\n", [], "2 rows have a value in 'y'; allowed: 30 or more. Collect more rows."),
        (b"x,y\n" + b"1,2\n" * 50, [], "The target 'y' is always '2'. Choose a column that has two values or more."),
        (
            b"x,y\n" + b"1,a\n" * 50 + b"2,b\n" * 3,
            [],
            "The target 'y' has 1 classes of 8 rows or more; allowed: two or more. Collect more rows of each class, or merge classes.",
        ),
        (
            b"x,y\n" + b"".join(b"%d,t%d\n" % (n, n) for n in range(200)),
            [],
            "The target 'y' has 200 different values; allowed for classes: 100. Group them, choose another column, or use --task regression if they are numbers.",
        ),
        (
            b"x,y\n" + b"1,a\n2,b\n" * 50,
            ["--task", "regression"],
            "The target 'y' holds text such as 'a', which is not a number. Use --task classification.",
        ),
        (
            b"x,y\n" + b"1,a\n1,b\n" * 50,
            [],
            "No column is left to learn from (x: always '1'). Give a file with columns that vary and repeat.",
        ),
        (
            b"x,y\n" + b"1,3\n2,1\n" * 50,
            [],
            "The columns have 2 distinct rows; allowed: 8 or more. Give columns that differ between rows.",
        ),
        (
            b"x,y\n1,2\n3,4,5,6\n",
            [],
            "Row 2 has 4 cells, and the header has 2. Quote the cells that hold the separator.",
        ),
    ],
)
def test_an_unsuitable_file_is_an_error(tmp_path, capsys, content, arguments, message):
    (tmp_path / "f.csv").write_bytes(content)
    code, _, error = run(
        capsys, "mine", "--csv", tmp_path / "f.csv", "--target", "y", "--into", tmp_path / "into", *arguments
    )
    assert (code, error) == (2, message)
    assert not (tmp_path / "into").exists()


def test_errors_of_names_files_and_folders(tmp_path, capsys):
    file = tmp_path / "f.csv"
    file.write_text(csv(["x", "c", "y"], points()))
    (tmp_path / "taken").mkdir()
    for name, csv_file, message in [
        (
            "My Project",
            file,
            "The project's name is 'My Project'; allowed: lower-case letters, digits and _, a letter first, at most 48. Rename it, for example \"my_project\".",
        ),
        ("class", file, "The project's name is 'class', a Python keyword. Choose another, for example \"my_class\"."),
        (
            "taken",
            file,
            f"{tmp_path}/taken already exists. Choose another name, or remove it with `rm -r {tmp_path}/taken`",
        ),
        (
            "mine",
            tmp_path / "none.csv",
            f"{tmp_path}/none.csv can't be read: No such file or directory. Give the path of a CSV file.",
        ),
        ("mine", tmp_path, f"{tmp_path} can't be read: Is a directory. Give the path of a CSV file."),
    ]:
        assert run(capsys, name, "--csv", csv_file, "--target", "y", "--into", tmp_path)[::2] == (2, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "taken"]
    assert not list((tmp_path / "taken").iterdir())
