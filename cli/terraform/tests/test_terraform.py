"""The generated pages of Terraform's modules, and the prices they are made of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.terraform import __main__, google, hcl, prices, readme
from phaseflow.settings import ROOT

MODULE = """# What it is,
# in two lines.

variable "groups" {
  description = <<-TEXT
    Groups by name, in
    "two" lines.
  TEXT
  type = map(object({
    types = list(string)
    min   = optional(number, 0)
  }))
  default = {
    a = { types = ["}"] }
  }

  validation {
    condition     = true
    error_message = "never"
  }
}

variable "name" {
  description = "Name, such as \\"ml\\"."
  type        = string
}

output "arn" {
  description = "Its ARN."
  value       = aws_x.this.arn
}

resource "aws_x" "this" {
  name = var.name
}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(readme, "FOLDER", tmp_path)
    folder = tmp_path / "modules" / "x"
    (folder / "tests").mkdir(parents=True)
    (folder / "main.tf").write_text(MODULE)
    (folder / "tests" / "x.tftest.hcl").write_text('variables {\n  name = "ml"\n}\n')
    return folder


def test_arguments_of_several_lines_are_read_whole(module: Path) -> None:
    groups, name, *_ = hcl.blocks(module)
    assert groups.text("description") == 'Groups by name, in "two" lines.'
    assert groups.argument("default") == '{\n  a = { types = ["}"] }\n}'
    assert (name.text("description"), name.argument("default")) == ('Name, such as "ml".', None)


def test_a_readme_has_variables_outputs_resources_and_the_example(module: Path) -> None:
    text = readme.text(module)
    assert "# x\n\nWhat it is, in two lines.\n" in text
    assert '| `groups` | `map(…)` | `{ a = { types = ["}"] } }` |' in text
    assert '| `name` | `string` | required | Name, such as "ml". |' in text
    assert "| `arn` | Its ARN. |" in text
    assert "`aws_x`" in text
    assert '  name = "ml"\n}\n```' in text


def test_every_variable_and_output_is_described() -> None:
    assert [
        f"{folder.relative_to(ROOT)}: {block.labels[0]}"
        for folder in readme.folders()
        for block in hcl.blocks(folder)
        if block.kind in {"variable", "output"} and not block.text("description")
    ] == []


def test_only_the_clouds_own_providers_are_used() -> None:
    sources = {
        source
        for path in (ROOT / "terraform").rglob("versions.tf")
        for source in re.findall(r'source += "(.*)"', path.read_text())
    }
    assert sources <= {"registry.terraform.io/hashicorp/aws", "registry.terraform.io/hashicorp/google"}


def test_the_bill_has_every_size_that_its_environment_names() -> None:
    table = prices.load()
    for name, about in table["environments"].items():
        text = (ROOT / "terraform" / "envs" / name / "main.tf").read_text()
        general = re.search(r'general += \{ (?:instance_types = \["|machine_type = ")([\w.-]+)".* min = (\d+)', text)
        assert general, name
        assert about["items"][general[1]] == int(general[2]), f"{name}: nodes of the bill"
        for instance in re.findall(r'"(db\.[\w.]+)"', text):
            assert instance in about["items"], f"{name}: {instance}"


def test_a_bill_is_quantity_times_price(tmp_path: Path) -> None:
    table = {
        "prices": {
            "aws": {
                "a": {"label": "A", "unit": "node", "hour": 2, "spot": 1},
                "b": {"label": "B", "unit": "GiB", "month": 3},
            }
        },
        "environments": {"aws/small": {"items": {"a": 2, "b": 10}, "batch": {"type": "a", "node_hours": 5}}},
    }
    assert [item.monthly for item in prices.items(table, "aws/small")] == [2 * 2 * 730, 30]
    assert prices.saving(table, "aws/small") == (10, 5)


def test_the_check_names_a_stale_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(__main__, "files", lambda: {"README.md": "another"})
    assert __main__.main(["--check"]) == 1
    assert capsys.readouterr().err == "error: stale: README.md. Run `make generate`.\n"


def test_every_argument_of_google_cloud_is_the_provider_s() -> None:
    assert google.problems(google.used(), json.loads(google.SCHEMA.read_text())) == []


def test_an_argument_that_the_provider_lacks_is_named() -> None:
    body = """  count = 1
  name  = "a" # b = c
  tags = {
    any = "key"
  }

  block {
    right = 1
    wrong = 2
  }

  dynamic "block" {
    for_each = []

    content {
      left = 1
    }
  }

  lifecycle {
    ignore_changes = []
  }
"""
    schema: dict[str, Any] = {"google_x": {"name": None, "block": {"right": None}}}
    blocks = [
        ("m: google_x.this", hcl.Block("resource", ("google_x", "this"), body)),
        ("m: google_y.this", hcl.Block("data", ("google_y", "this"), "")),
    ]
    assert google.problems(blocks, schema) == [
        "m: google_x.this: no argument tags",
        "m: google_x.this: no argument block.wrong",
        "m: google_x.this: no argument block.left",
        "m: google_y.this: no such resource",
    ]
