"""The HTTP API in process: the public response format, streams, the OpenAI-style interface, and every kind of bad input."""

import base64
import io
import json
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")
from fastapi.testclient import TestClient

from egohoi.apps.server import Limits, create_app, is_loopback
from egohoi.apps.server_input import clean_name
from egohoi.apps.server_worker import name_of
from egohoi.errors import BadWeights
from egohoi.models.base import Model
from egohoi.records import Response

LEFT, CUP = (20, 120, 100, 200), (150, 30, 250, 130)


@pytest.fixture
def picture(make_blocks, make_png):
    return make_png(make_blocks(left_hand=LEFT, cup=CUP))


@pytest.fixture
def client(color_model):
    return connect({"colors": color_model})


def connect(models, limits=None, loader=None, address="127.0.0.1"):
    app = create_app(models, limits or Limits(), loader)
    return TestClient(app, base_url="http://127.0.0.1:7860", client=(address, 5000), raise_server_exceptions=False)


def form(client, picture, path="/v1/ask", name="kitchen.png", **fields):
    return client.post(path, files={"image": (name, picture, "image/png")}, data={k: str(v) for k, v in fields.items()})


def problem(reply, status=400):
    assert reply.status_code == status, reply.text
    message = reply.json()["error"]["message"]
    assert "\n" not in message and "Traceback" not in message
    return message


def events(reply):
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in reply.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event"), lines["data"]))
    return found


def test_ask_returns_the_public_format(client, picture, color_model):
    reply = form(client, picture, question="Where is the cup?")
    assert reply.status_code == 200
    expected = color_model.ask(Image.open(io.BytesIO(picture)), "Where is the cup?").to_json()
    assert reply.json() == {**expected, "image": "kitchen.png"}
    assert reply.json()["entities"][0]["box"] == [float(v) for v in CUP]
    assert list(reply.json()) == [
        "image", "size", "query", "task", "text", "analysis", "target_found", "entities", "model", "milliseconds"]


def test_json_and_form_agree(client, picture):
    plain = base64.b64encode(picture).decode()
    for image in (plain, "data:image/png;base64," + plain):
        reply = client.post("/v1/ask", json={"image": image, "name": "kitchen.png", "question": "the cup", "mask": False})
        assert reply.json() == form(client, picture, question="the cup", mask="false").json()
        assert reply.json()["entities"][0]["mask"] is None


@pytest.mark.parametrize("fields", [{"box": "30,130,90,190"}, {"box": "[30, 130, 90, 190]"}, {"point": "50 150"}])
def test_identify(client, picture, fields):
    reply = form(client, picture, **fields).json()
    assert (reply["task"], reply["text"]) == ("identify", "left hand")


def test_describe(client, picture):
    assert form(client, picture, "/v1/describe").json()["text"] == "There is left hand and cup."
    image = base64.b64encode(picture).decode()
    assert [e["name"] for e in client.post("/v1/describe", json={"image": image}).json()["entities"]] == ["left hand", "cup"]


def test_turned_photos_are_upright(client, make_blocks):
    # Orientation 6: the stored pixels are to be turned by 90 degrees clockwise; the answer's pixels are the upright picture's.
    stored = np.rot90(make_blocks(cup=CUP))
    image, exif, file = Image.fromarray(stored), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    reply = form(client, file.getvalue(), question="cup").json()
    assert reply["size"] == [320, 240] and reply["entities"][0]["box"] == [float(v) for v in CUP]


def test_settings_reach_the_model(client, picture):
    assert form(client, picture, question="cup", max_new_tokens=2).json()["text"] == "The cup"


def test_stream_gives_pieces_then_the_response(client, picture):
    found = events(form(client, picture, question="Where is the cup?", stream="true"))
    assert [kind for kind, _ in found] == ["text"] * 4 + ["response"]
    assert "".join(json.loads(data)["text"] for kind, data in found[:-1]) == "The cup is here."
    assert json.loads(found[-1][1]) == form(client, picture, question="Where is the cup?").json()
    assert json.loads(events(form(client, picture, "/v1/describe", stream="true"))[-1][1])["task"] == "analyze"


def chat(picture, question="Where is the cup?", **more):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": "colors", "messages": [{"role": "user", "content": parts}], **more}


def test_chat_completion(client, picture):
    reply = client.post("/v1/chat/completions", json=chat(picture, user="somebody", stop=None)).json()
    assert reply["object"] == "chat.completion" and reply["model"] == "colors"
    assert reply["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "The cup is here."}, "finish_reason": "stop"}]
    assert reply["egohoi"]["entities"][0]["name"] == "cup"


def test_chat_asks_the_last_question_about_the_last_picture(client, picture):
    body = chat(picture, "Where is the left hand?")
    body["messages"] += [{"role": "assistant", "content": "There."}, {"role": "user", "content": "And the cup?"}]
    body["messages"].insert(0, {"role": "system", "content": "Be brief."})
    assert client.post("/v1/chat/completions", json=body).json()["egohoi"]["query"] == "And the cup?"


class Listener(Model):
    """Says what it was asked, with all earlier turns."""

    name = "listener"

    @classmethod
    def from_pretrained(cls, folder, *, device=None, precision=None):
        return cls()

    def respond(self, pictures, queries, settings):
        said = [" | ".join(f"{t.question} {t.box or ''} -> {t.answer}" for t in q.history) + f" | {q.text}" for q in queries]
        return [Response(p.name, p.size, q.text, "answer", text, True, picture=p.pixels) for p, q, text in zip(pictures, queries, said)]


@pytest.fixture
def listener():
    return connect({"listener": Listener()})


def test_earlier_turns_reach_the_model(listener, picture):
    turns = [{"question": "Where is the cup?", "answer": "{<1><2><3><4>}"}, {"answer": "a knife", "box": [1, 2, 30, 40]}]
    heard = "Where is the cup?  -> {<1><2><3><4>} |  (1.0, 2.0, 30.0, 40.0) -> a knife | And now?"
    assert form(listener, picture, question="And now?", history=json.dumps(turns)).json()["text"] == heard
    body = {"image": base64.b64encode(picture).decode(), "question": "And now?", "history": turns}
    assert listener.post("/v1/ask", json=body).json()["text"] == heard
    assert json.loads(events(form(listener, picture, question="And now?", history=json.dumps(turns), stream="true"))[-1][1])["text"] == heard


def test_a_chat_hands_on_the_turns_about_its_last_picture(listener, picture):
    body = chat(picture, "Where is it?")
    body["model"] = "listener"
    body["messages"] += [{"role": "assistant", "content": "There."}, {"role": "user", "content": "Sure?"}]
    assert listener.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "Where is it?  -> There. | Sure?"
    body["messages"] += [{"role": "assistant", "content": "Yes."}, chat(picture, "And here?")["messages"][0]]
    assert listener.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == " | And here?"


@pytest.mark.parametrize(("history", "message"), [
    ("nonsense", "history: value error, is a JSON list"), ("{}", "history: input should be a valid list"), ('[{"question": "a"}]', "history.0.answer"),
    ('[{"answer": "a"}]', "empty question"), ('[{"question": "a", "answer": "b", "box": [1]}]', "history.0.box"),
    ('[{"question": "a", "answer": "b", "box": [5, 5, 1, 1]}]', "box of an earlier turn"), ('[{"question": "a", "reply": "b"}]', "history.0"),
    (json.dumps([{"question": "a", "answer": "b" * 9000}]), "more than 8000 characters"),
])
def test_bad_history(listener, picture, history, message):
    assert message in problem(form(listener, picture, question="And now?", history=history))


def test_chat_stream(client, picture):
    found = events(client.post("/v1/chat/completions", json=chat(picture, stream=True)))
    assert found[-1][1] == "[DONE]"
    chunks = [json.loads(data) for _, data in found[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "The cup is here."
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop" and chunks[-1]["egohoi"]["task"] == "refer"
    assert len({c["id"] for c in chunks}) == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"messages": []}, "at least one message"),
    ({"messages": [{"role": "user", "content": "no picture"}]}, "need a picture"),
    ({"messages": [{"content": "x"}]}, "role"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "text or image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.org/a.jpg"}}]}]}, "opens no addresses"),
    ({"messages": "hello"}, "messages"),
    ({"n": 2}, "n: is not supported"), ({"stop": ["."]}, "stop: is not supported"), ({"temperature": 9}, "temperature"),
])
def test_chat_bad_input(client, picture, change, message):
    assert message in problem(client.post("/v1/chat/completions", json={**chat(picture), **change}))


def test_models_and_health(client):
    listed = client.get("/v1/models").json()
    assert [m["id"] for m in listed["data"]] == ["colors"] and "vlm4hoi" in listed["loadable"]
    assert client.get("/health").json() == {**client.get("/health").json(), "status": "ok", "models": ["colors"], "waiting": 0}


@pytest.mark.parametrize(("fields", "message"), [
    ({}, "the question is empty"), ({"question": "  "}, "the question is empty"), ({"question": "x" * 9000}, "shorten it"),
    ({"box": "1,2,3"}, "four numbers"), ({"box": "90,10,20,40"}, "x1 < x2"), ({"box": "1000,1000,1100,1100"}, "outside the picture"),
    ({"box": "a,b,c,d"}, "box"), ({"point": "1"}, "a point is x y"), ({"point": "900,5"}, "outside the picture"),
    ({"question": "q", "task": "dance"}, "task must be one of"), ({"question": "q", "temperature": "hot"}, "temperature"),
    ({"question": "q", "top_p": 0}, "top-p"), ({"question": "q", "beams": 99}, "beams"), ({"question": "q", "max_new_tokens": 0}, "max-new-tokens"),
    ({"question": "q", "max_new_tokenz": 5}, "did you mean 'max_new_tokens'"), ({"question": "q", "temperature": "nan"}, "temperature"),
])
def test_bad_fields(client, picture, fields, message):
    assert message in problem(form(client, picture, **fields))


def test_bad_pictures(client, picture, tmp_path):
    assert "empty" in problem(form(client, b"", question="q"))
    assert "not a picture" in problem(form(client, b"hello" * 100, question="q", name="notes.txt"))
    assert "cut short" in problem(form(client, picture[: len(picture) // 2], question="q"))
    assert "image: is missing" in problem(client.post("/v1/ask", json={"question": "q"}))
    assert "send the picture as a file" in problem(client.post("/v1/ask", files={"x": ("", "")}, data={"image": "photo.jpg", "question": "q"}))
    assert problem(client.post("/v1/ask", files={"photo": ("a.png", picture)}, data={"question": "q"})).startswith("the picture's field")


def test_paths_and_addresses_are_never_opened(client, picture, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture)
    for image in (str(secret), f"file://{secret}", "http://127.0.0.1:1/a.png", "data:image/png," + str(secret), "data:;base64,@@@"):
        assert problem(client.post("/v1/ask", json={"image": image, "question": "cup"})).startswith("image:")
    # A file name that looks like a path stays a name.
    assert form(client, picture, question="cup", name="../../etc/passwd").json()["image"] == "passwd"
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static/examples/..%2f..%2fserver.py"):
        assert client.get(path).status_code == 404


def test_bad_bodies(client):
    assert "not JSON" in problem(client.post("/v1/ask", content=b"{", headers={"content-type": "application/json"}))
    assert "JSON object" in problem(client.post("/v1/ask", json=[1]))
    assert "not JSON" in problem(client.post("/v1/ask", content=b"[" * 100000, headers={"content-type": "application/json"}))
    assert "multipart" in problem(client.post("/v1/ask", content=b"x", headers={"content-type": "text/plain"}), 415)
    problem(client.post("/v1/ask", content=b"x", headers={"content-type": "multipart/form-data; boundary=b"}))
    problem(client.get("/v1/nothing"), 404)
    problem(client.get("/v1/ask"), 405)
    assert "colors" in problem(client.post("/v1/ask", json={"image": "aaaa", "question": "q", "model": "gpt"}), 404)


def test_upload_limit(color_model, picture):
    client = connect({"colors": color_model}, Limits(upload=1000))
    big = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(big).save(file, "PNG")
    assert "larger than" in problem(form(client, file.getvalue(), question="q"), 413)

    def pieces():  # no Content-Length: the bytes are counted as they arrive
        for _ in range(5):
            yield b"x" * 500

    assert "larger than" in problem(client.post("/v1/ask", content=pieces(), headers={"content-type": "application/json"}), 413)


def test_loopback_server_refuses_foreign_names_and_pages(client, picture):
    assert "this machine only" in problem(client.get("/health", headers={"host": "evil.example"}), 403)
    assert client.get("/health", headers={"host": "localhost:9"}).status_code == 200
    assert client.get("/health", headers={"host": "[::1]:7860"}).status_code == 200
    reply = client.post("/v1/ask", files={"image": picture}, data={"question": "cup"}, headers={"origin": "http://evil.example"})
    assert "other sites" in problem(reply, 403)
    reply = client.post("/v1/ask", files={"image": picture}, data={"question": "cup"}, headers={"origin": "http://127.0.0.1:7860"})
    assert reply.status_code == 200


def test_adding_a_model(color_model, picture):
    asked = []

    def loader(spec):
        asked.append(spec)
        if "missing" in spec:
            raise BadWeights(f"{spec}: no such folder")
        return type(color_model)()

    client = connect({"colors": color_model}, loader=loader)
    assert client.post("/v1/models", json={"kind": "vlm4hoi", "folder": "/models/seven"}).json()["id"] == "vlm4hoi:seven"
    assert asked == ["vlm4hoi:/models/seven"]
    assert form(client, picture, question="cup", model="vlm4hoi:seven").status_code == 200
    assert client.post("/v1/models", json={"kind": "hf", "folder": "two"}).json()["id"] == "hf:two"
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["colors", "hf:two"]
    assert "no such folder" in problem(client.post("/v1/models", json={"kind": "hf", "folder": "missing"}))
    assert "folder" in problem(client.post("/v1/models", json={"kind": "hf"}))
    assert "application/json" in problem(client.post("/v1/models", content=b"{}", headers={"content-type": "text/plain"}), 415)


def test_models_are_not_added_from_elsewhere(color_model):
    def loader(spec):
        raise AssertionError("must not be called")

    body = {"kind": "vlm4hoi", "folder": "/models/seven"}
    far = connect({"colors": color_model}, Limits(loopback=False), loader, address="10.0.0.7")
    assert "--allow-load" in problem(far.post("/v1/models", json=body), 403)
    assert far.get("/v1/models").json()["loadable"] == []
    # A public server does not trust the loopback address either: a proxy in front of it has that address.
    near = connect({"colors": color_model}, Limits(loopback=False), loader)
    assert "--allow-load" in problem(near.post("/v1/models", json=body), 403)
    allowed = connect({"colors": color_model}, Limits(loopback=False, may_load=True), lambda spec: color_model, address="10.0.0.7")
    assert allowed.post("/v1/models", json=body).status_code == 200


def test_requests_run_one_after_another(color_model, picture):
    inside, most, lock = 0, 0, threading.Lock()

    class Slow(type(color_model)):
        def respond(self, *arguments):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1
            return super().respond(*arguments)

    with connect({"slow": Slow()}) as client:
        replies = [None] * 8

        def send(k):
            replies[k] = form(client, picture, question=("cup" if k % 2 else "left hand"), stream=str(k % 3 == 0)).text

        threads = [threading.Thread(target=send, args=(k,)) for k in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert most == 1
    assert all(("cup" if k % 2 else "left hand") in replies[k] for k in range(8))


def test_full_queue_is_503(color_model, picture):
    begun, go = threading.Event(), threading.Event()

    class Stuck(type(color_model)):
        def respond(self, *arguments):
            begun.set()
            assert go.wait(30)
            return super().respond(*arguments)

    with connect({"stuck": Stuck()}, Limits(waiting=1)) as client:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(form(client, picture, question="cup").status_code)) for _ in range(2)]
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        while client.get("/health").json()["waiting"] == 0:
            time.sleep(0.01)
        reply = form(client, picture, question="cup")
        assert "busy" in problem(reply, 503) and reply.headers["retry-after"]
        go.set()
        [t.join() for t in threads]
        assert replies == [200, 200]


def test_faults_of_the_model_tell_nothing_and_the_server_goes_on(color_model, picture):
    class Broken(type(color_model)):
        def respond(self, pictures, queries, settings):
            if "boom" in queries[0].text:
                raise RuntimeError("secret detail")
            return super().respond(pictures, queries, settings)

    client = connect({"broken": Broken()})
    for stream in ("false", "true"):
        assert "secret" not in problem(form(client, picture, question="boom", stream=stream), 500)
    assert form(client, picture, question="cup").status_code == 200


def test_fault_in_the_middle_of_a_stream_is_an_event(color_model, picture):
    class Breaks(type(color_model)):
        def stream(self, *arguments):
            yield "The"
            raise RuntimeError("secret detail")

    found = events(form(connect({"breaks": Breaks()}), picture, question="cup", stream="true"))
    assert [kind for kind, _ in found] == ["text", "error"] and "secret" not in found[1][1]


def test_pictures_are_decoded_once_in_a_conversation(color_model, picture):
    seen = []

    class Watch(type(color_model)):
        def respond(self, pictures, queries, settings):
            seen.append(id(pictures[0]))
            return super().respond(pictures, queries, settings)

    client = connect({"watch": Watch()})
    for question in ("cup", "left hand", "knife"):
        form(client, picture, question=question)
    assert len(seen) == 3 and len(set(seen)) == 1


def test_openapi_and_documentation(client):
    api = client.get("/openapi.json").json()
    assert {"/v1/ask", "/v1/describe", "/v1/chat/completions", "/v1/models", "/health"} <= set(api["paths"])
    assert "box" in api["paths"]["/v1/ask"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    page = client.get("/docs").text
    assert "/v1/chat/completions" in page and "top_p" in page
    assert "<code>response</code> for the whole" in page and "`" not in page.split("<h2>The response</h2>")[0]
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page), "the documentation must work without a network"


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.8.0.3", True),
                                             ("0.0.0.0", False), ("192.168.0.4", False), ("example.org", False), ("", False)])
def test_is_loopback(host, local):
    assert is_loopback(host) is local


def test_names():
    assert name_of("nano", {}) == "nano" and name_of("vlm4hoi:/a/b/seven/", {}) == "vlm4hoi:seven"
    assert name_of("vlm4hoi:/x/seven", {"vlm4hoi:seven"}) == "vlm4hoi:seven-2" and name_of("hf:C:\\models\\q", {}) == "hf:q"
    assert clean_name("a/b\\c\n.jpg") == "c.jpg" and clean_name(None) == "upload" and clean_name("../") == "upload"


def test_a_response_is_drawn_on_its_picture(client, picture):
    said = client.post("/v1/ask", files={"image": ("a.png", picture)}, data={"question": "the cup"}).json()
    reply = client.post("/v1/draw", files={"image": ("a.png", picture)}, data={"response": json.dumps(said)})
    assert reply.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(reply.content)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert image.size == (320, 240) and np.abs(pixels[80, 200] - (0, 255, 0)).max() > 40 and pixels[230, 310].tolist() == [128] * 3


@pytest.mark.parametrize(("response", "words"), [
    ("{", "not JSON"), ("[]", "JSON object"), ("{}", "not a response"), (None, "JSON object"),
    ({"size": [10, 10]}, "about a picture of 10x10"), ({"entities": [{"name": "x"}]}, "not a response"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_one_line(client, picture, response, words):
    said = client.post("/v1/ask", files={"image": ("a.png", picture)}, data={"question": "the cup"}).json()
    text = json.dumps({**said, **response}) if isinstance(response, dict) else response
    reply = client.post("/v1/draw", files={"image": ("a.png", picture)}, data={} if text is None else {"response": text})
    assert reply.status_code == 400 and words in reply.json()["error"]["message"] and "\n" not in reply.json()["error"]["message"]


def test_a_drawing_needs_a_form(client):
    assert client.post("/v1/draw", json={}).status_code == 415
    assert client.post("/v1/draw", files={"other": b"1"}, data={"response": "{}"}).status_code == 400
