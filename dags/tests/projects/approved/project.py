"""Titanic with one candidate, whose promotion a person approves."""

from dataclasses import replace

from projects.titanic.project import project as titanic

project = replace(
    titanic, name="approved", candidates=titanic.candidates[:1], gate=replace(titanic.gate, approval_hours=1)
)
