"""What a run looks like to a person: tables in the terminal, and one HTML file with its pictures.

Nothing here changes a run: everything is read from the records that it leaves.
"""

from pathlib import Path

from llmagentos.files import write_durably
from llmagentos.report.lines import round_line
from llmagentos.report.tables import print_summary, result_tables, silo_table, terminal

__all__ = ["print_summary", "result_tables", "round_line", "silo_table", "terminal", "write_report"]


def write_report(folder: Path) -> Path:
    """``report.html`` of a run's folder, drawn from its records and put in place whole.

    Works while the run goes on, and gives the same bytes for the same records. The drawing
    library is loaded here, as the tables do without it.
    Raises ``SettingError`` when the folder is not a run's, ``JournalError`` when a file is damaged.
    """
    from llmagentos.report.page import render  # noqa: PLC0415
    from llmagentos.report.records import read_run  # noqa: PLC0415

    report = folder / "report.html"
    write_durably(report, render(read_run(folder)).encode())
    return report
