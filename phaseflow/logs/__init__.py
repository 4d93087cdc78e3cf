"""The reader of the prediction log and the feedback log.

A log consists of small Parquet files in one folder per hour, `<kind>/<project>/date=<YYYY-MM-DD>/hour=<HH>/`. The
service writes them, and `pipelines.etl.compact` merges the files of a finished hour. All readers share these rules:

- The metadata of a compacted file lists its sources. A reader that sees both reads the compacted file and skips its
  sources.
- An id may occur twice, if a file was shipped twice or an hour is compacted while it is read. It counts once.
- If an id has several labels, the latest counts. If their times are equal, the row whose other columns sort last
  counts. The name of the file does not matter, since a compaction changes it.
- A row is in the folder of its own hour. The exception is a row that is read by arrival (a label, or a row of a project
  without a target) and was shipped more than `LATE` after its time. It is in the folder of the hour of its arrival, so
  that a reader that has already read the hour of the row still finds it.
"""

from phaseflow.logs.files import (
    ATTEMPTS,
    BATCH_BYTES,
    BATCH_FILES,
    COMPACTED,
    READERS,
    RENAMED,
    ROW_GROUP,
    SOURCES,
    STATISTICS,
    Hour,
    batches,
    is_compacted,
    listed,
    sorted_out,
    sources,
    together,
    written,
)
from phaseflow.logs.layout import (
    HOUR,
    ID,
    KINDS,
    LATE,
    SKEW,
    TIME,
    all_hours,
    by_arrival,
    by_hour,
    floor,
    folder,
    hour_of,
    hours,
    id_time,
    new_id,
    retained_since,
)
from phaseflow.logs.queries import EARLIER, REACH, SLACK, frame, labels_of, last, lookup, newest, sample, window

__all__ = [
    "ATTEMPTS",
    "BATCH_BYTES",
    "BATCH_FILES",
    "COMPACTED",
    "EARLIER",
    "HOUR",
    "ID",
    "KINDS",
    "LATE",
    "REACH",
    "READERS",
    "RENAMED",
    "ROW_GROUP",
    "SKEW",
    "SLACK",
    "SOURCES",
    "STATISTICS",
    "TIME",
    "Hour",
    "all_hours",
    "batches",
    "by_arrival",
    "by_hour",
    "floor",
    "folder",
    "frame",
    "hour_of",
    "hours",
    "id_time",
    "is_compacted",
    "labels_of",
    "last",
    "listed",
    "lookup",
    "new_id",
    "newest",
    "retained_since",
    "sample",
    "sorted_out",
    "sources",
    "together",
    "window",
    "written",
]
