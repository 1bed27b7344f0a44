"""nano, the embedded model: a small vision-language model that refers, identifies, answers, analyses and grounds on a CPU."""

from egohoi.models.nano.model import Nano

__all__ = ["Nano"]
