"""What a model must do: answer queries about pictures. Subclasses implement `respond`; the rest is shared."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from egohoi import boxes, images
from egohoi.errors import BadConfig, BadQuery
from egohoi.images import Picture
from egohoi.records import Query, Response


@dataclass(frozen=True)
class Generation:
    """How text is generated. The default is greedy and deterministic.

    max_new_tokens: None leaves it to the model (50 for VLM4HOI). temperature 0 is greedy; top_p and seed count
    only above 0. beams > 1 searches that many beams (with temperature 0).
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    beams: int = 1
    seed: int = 0

    def __post_init__(self):
        if self.max_new_tokens is not None and not 1 <= self.max_new_tokens <= 4096:
            raise BadConfig(f"max-new-tokens must lie in 1..4096, got {self.max_new_tokens}")
        if not 0 <= self.temperature <= 5:
            raise BadConfig(f"temperature must lie in 0..5, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise BadConfig(f"top-p must lie in (0, 1], got {self.top_p}")
        if not 1 <= self.beams <= 32:
            raise BadConfig(f"beams must lie in 1..32, got {self.beams}")


class Model(ABC):
    """A model that reads pictures and answers queries. `name` stands in the `model` field of its responses."""

    name: str = ""

    @classmethod
    @abstractmethod
    def from_pretrained(cls, folder: str | None, *, device: str | None = None, precision: str | None = None) -> "Model":
        """Load from a folder. Raises BadWeights."""

    @abstractmethod
    def respond(self, pictures: Sequence[Picture], queries: Sequence[Query], settings: Generation) -> list[Response]:
        """Answer queries[i] about pictures[i]; one response each, in order. The batch must not change an answer."""

    def ask(
        self, image, question: str = "", *, box=None, point=None, task: str | None = None, mask: bool | None = None,
        settings: Generation | None = None,
    ) -> Response:
        """Answer one question about one picture.

        image: path, bytes, PIL image or uint8 array [H, W, 3]. box: xyxy pixels or point: (x, y) pixels to identify.
        task: refer | identify | answer | analyze | ground, or None (the wording decides). mask: ask for masks.
        Raises BadImage, BadQuery, BadBox.
        """
        query = Query(text=question, box=box, point=point, task=task, mask=mask)
        picture = images.load(image)
        self.check(picture, query)
        return self.respond([picture], [query], settings or Generation())[0]

    def ask_many(self, items: Sequence[tuple], settings: Generation | None = None) -> list[Response]:
        """Answer [(image, Query or text), ...] as one batch; the same answers as one by one."""
        pictures = [images.load(image) for image, _ in items]
        queries = [q if isinstance(q, Query) else Query(text=q) for _, q in items]
        for picture, query in zip(pictures, queries):
            self.check(picture, query)
        return self.respond(pictures, queries, settings or Generation())

    def describe(self, image, settings: Generation | None = None) -> Response:
        """Every hand, active object and contact, and the analysis. Models without a detector answer in text only."""
        return self.ask(image, "What is happening?", task="analyze", settings=settings)

    def stream(self, image, query: Query, settings: Generation | None = None) -> Iterator[str | Response]:
        """Pieces of the answer's text as they are written, then the whole Response as the last item."""
        picture = images.load(image)
        self.check(picture, query)
        response = self.respond([picture], [query], settings or Generation())[0]
        yield response.text
        yield response

    @staticmethod
    def check(picture: Picture, query: Query) -> None:
        """Raise BadBox or BadQuery if the query's box or point lies outside the picture."""
        if query.box is not None:
            boxes.check(query.box, picture.size, where="box of the question")
        if query.point is not None:
            (x, y), (width, height) = query.point, picture.size
            if not (0 <= x < width and 0 <= y < height):
                raise BadQuery(f"the point {x:g} {y:g} lies outside the picture of {width}x{height} pixels")
