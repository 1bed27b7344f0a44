"""egohoi: hands and objects in first-person images - refer, analyse, answer, ground.

    import egohoi
    model = egohoi.load("nano")
    response = model.ask("kitchen.jpg", "Where is the left hand?")
    response.entities[0].box, response.text, response.draw()
"""

__version__ = "0.1.0"
__all__ = ["load", "__version__"]


def load(spec: str = "nano", *, device: str | None = None, precision: str | None = None):
    """Load a model: "nano", "vlm4hoi:FOLDER", "annexe:FOLDER", "hf:NAME". See `egohoi.models.load`."""
    from egohoi.models import load as load_model  # torch is imported on first use only

    return load_model(spec, device=device, precision=precision)
