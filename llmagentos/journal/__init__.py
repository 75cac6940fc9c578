"""What outlives a process: the state, tasks, answers and reports of a run, in one folder."""

from llmagentos.journal.answers import Answer, Answers
from llmagentos.journal.journal import Journal
from llmagentos.journal.records import Records

__all__ = ["Answer", "Answers", "Journal", "Records"]
