"""Text files that people write, as values that know where in the file they stand."""

from fleetops.documents.document import Document, Place
from fleetops.documents.files import LARGEST_YAML, read_document
from fleetops.documents.reading import open_text, place_of, read_bytes
from fleetops.documents.wording import found, invalid, nearest, refusal, suggestion

__all__ = [
    "LARGEST_YAML",
    "Document",
    "Place",
    "found",
    "invalid",
    "nearest",
    "open_text",
    "place_of",
    "read_bytes",
    "read_document",
    "refusal",
    "suggestion",
]
