"""Feature maps of two networks side by side: which stages go together, and at what size."""

import torch.nn.functional as F
from torch import Tensor, nn


def pair_stages(num_student: int, num_teacher: int) -> list[tuple[int, int]]:
    """Pairs (student stage, teacher stage) of indices that go together.

    Equal counts pair in order. Otherwise each stage of the shorter list goes with the stage at the
    same relative depth of the longer one, and last goes with last.
    """
    shorter, longer = sorted((num_student, num_teacher))
    partner = [-(-(i + 1) * longer // shorter) - 1 for i in range(shorter)]
    if num_student <= num_teacher:
        return list(enumerate(partner))
    return [(far, near) for near, far in enumerate(partner)]


def to_common_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two B×C×H×W maps to the height and width of the smaller."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return average_pool(a, size), average_pool(b, size)


def average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Averages of B×C×H×W maps over the cells of a grid of `size` (rows, columns)."""
    (height, width), (rows, columns) = x.shape[2:], size
    if (height, width) == size:
        return x
    if height % rows or width % columns:
        return F.adaptive_avg_pool2d(x, size)
    return F.avg_pool2d(x, (height // rows, width // columns))  # whose gradient is deterministic on GPUs too


def bottleneck(channels_s: int, width: int, channels_t: int) -> nn.Sequential:
    """B×C_s×H×W to B×C_t×H×W by 1×1, 3×3 and 1×1 convolutions, `width` wide, with batch norm and ReLU between."""
    return nn.Sequential(
        nn.Conv2d(channels_s, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, channels_t, 1, bias=False),
    )


class Regressor(nn.Module):
    """Maps of shape `source` to maps of shape `target` (C, H, W): convolution, batch norm, ReLU.

    Half and double sizes use a strided or a transposed convolution, smaller targets a valid
    convolution of the fitting size (the FitNets form); any other enlargement interpolates first.
    """

    def __init__(self, source: tuple[int, int, int], target: tuple[int, int, int]):
        super().__init__()
        (c_in, h_in, _), (c_out, h_out, w_out) = source, target
        self.size: tuple[int, int] | None = None
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if h_in == 2 * h_out:
            self.conv = nn.Conv2d(c_in, c_out, kernel_size=3, stride=2, padding=1)
        elif h_in * 2 == h_out:
            self.conv = nn.ConvTranspose2d(c_in, c_out, kernel_size=4, stride=2, padding=1)
        elif h_in >= h_out:
            self.conv = nn.Conv2d(c_in, c_out, kernel_size=1 + h_in - h_out)
        else:
            self.size = (h_out, w_out)
            self.conv = nn.Conv2d(c_in, c_out, kernel_size=1)
        self.bn = nn.BatchNorm2d(c_out)

    def regress(self, x: Tensor) -> Tensor:
        """Maps before the ReLU."""
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return self.bn(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.regress(x))
