"""The data doctor: what is wrong with a corpus, found before anything is trained on it."""

from calque.text.check.doctor import check
from calque.text.check.report import Example, Finding, Report, Severity, Size, Split
from calque.text.check.table import render

__all__ = ["Example", "Finding", "Report", "Severity", "Size", "Split", "check", "render"]
