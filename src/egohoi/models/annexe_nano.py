"""The encoder of nano as the vision tower of ANNEXE: trained weights that the package carries, so nothing is fetched."""

from types import SimpleNamespace

from torch import Tensor, nn

from egohoi.models.nano.detector import WIDTH

#: Mean and standard deviation of the tower's pictures, RGB in 0..1: together they are nano's own (x - 127) / 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
#: Pixels of one patch.
PATCH = 8


class NanoTower(nn.Module):
    """Normalised pictures float [B, 3, S, S], S a multiple of 32 -> `last_hidden_state` [B, 96, S / 8, S / 8].

    Encoder and neck of nano's detector, without its heads; it starts with the embedded weights.
    """

    width = WIDTH

    def __init__(self):
        super().__init__()
        from safetensors.torch import load_file

        from egohoi.models.nano.detector import Detector
        from egohoi.models.nano.model import EMBEDDED

        detector = Detector()
        self.encoder, self.reduce, self.mix16, self.neck = detector.encoder, detector.reduce, detector.mix16, detector.neck
        state = load_file(EMBEDDED / "detector.safetensors")
        self.load_state_dict({name: state[name].float() for name in self.state_dict()})

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        _, c8, c16, c32 = self.encoder(pixels)
        p16 = self.mix16(self.reduce[1](c16) + nn.functional.interpolate(self.reduce[2](c32), size=c16.shape[2:], mode="nearest"))
        wide = nn.functional.interpolate(p16, size=c8.shape[2:], mode="bilinear", align_corners=False)
        return SimpleNamespace(last_hidden_state=self.neck(self.reduce[0](c8) + wide))


__all__ = ["MEAN", "PATCH", "STD", "NanoTower"]
