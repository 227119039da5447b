"""Any network of timm (pytorch-image-models, Wightman, 2019) by its name there: `timm:resnet18`, `timm:mixer_b16_224`.

It is built without weights for the images of the data set. `timm:NAME@224` is built for 224 px and resizes the images
itself, bicubic with antialiasing as timm's own transforms do: so a network fine-tuned at 224 px can teach on images of
32 px.

State dicts have timm's keys, so timm's own weights load. They say nothing of normalisation: the images come normalised
as the data set is here, unless a tag behind a dot (`resnet18.a1_in1k`) says which weights a file holds. The tag is no
part of the network's name.
"""

import difflib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from common.memory import gibibytes, memory_bytes, tensor_bytes
from common.messages import cut
from models.features import Features
from models.network import Network
from models.registry import MODELS, Library, ModelEntry, register_model
from models.tokens import NUM_STAGES, stage_ends

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of pixels in 0..1, per channel
FORM = "any network of timm as timm:NAME, images resized as timm:NAME@224 (pip install timm==1.0.31)"
LARGEST_SIZE = 2048  # pixels of an image's side; timm's own networks have at most 1024
# Raised by timm and torch for a network that cannot be built for, or cannot take, images of some size.
UNFIT = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError)
PREFIX = "net."  # of timm's keys in the names of a `TimmNetwork`'s parameters; not in its state dict

if TYPE_CHECKING:

    class TimmModule(nn.Module):
        """The interface that all classifiers of timm share, for the type checker: timm has no types."""

        def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]: ...
        def forward_features(self, x: Tensor) -> Tensor: ...
        def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor: ...
        def get_classifier(self) -> nn.Module: ...


class TimmNetwork(Network):
    """A network of timm that shows its features, by one pass of timm's `forward_intermediates`.

    Of the maps that timm gives, B×C×H×W in order, the stem is the first. Where all have one shape (ViTs, MLPs) they are
    the blocks, and the stages are four of them at even distances; elsewhere the stages are the last four, or fewer.
    Preacts are the stages, whatever activation these end in. The embedding is the classifier's input; where it is the
    mean of the final map, that is `last_map`, elsewhere the embedding as a map of one position.

    Args:
        network: as timm builds it.
        name: NAME or NAME@SIZE, for messages.
        image_size: of the images that come.
        built_for: size of the images that the network takes; others are resized.

    Raises:
        RequestError: the network cannot take such images, ignores their margins, or has no linear classifier.
    """

    def __init__(self, network: "TimmModule", name: str, image_size: int, built_for: int):
        super().__init__()
        self.net = network
        self.register_state_dict_post_hook(_to_timms_keys)
        self.register_load_state_dict_pre_hook(_from_timms_keys)
        self.image_size, self.built_for = image_size, built_for
        self.classifier_name = _classifier_name(network, name)
        self.averages_map = False
        self._probe(name)

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that turns the embedding into logits."""
        layer = self.net.get_submodule(self.classifier_name)
        assert isinstance(layer, nn.Linear)  # see `_classifier_name`
        return layer

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that must not decay, whatever their shape: timm's list, and all that is called no weight.

        timm's lists lack some tables of positions (Visformer's, HaloNet's) and scales (NFNet's).
        """
        listed: Callable[[], set[str]] = getattr(self.net, "no_weight_decay", set)
        others = {name for name, _ in self.net.named_parameters() if not name.endswith("weight")}
        return {PREFIX + name for name in others | set(listed())}

    def parameter_depths(self) -> dict[str, int]:
        """The layer of each parameter by its name, as timm groups them: stages of CNNs, blocks of others."""
        matcher = getattr(self.net, "group_matcher", None)
        if matcher is None:
            return super().parameter_depths()
        from timm.models import group_parameters

        return {
            PREFIX + name: depth
            for name, depth in group_parameters(self.net, matcher(coarse=True), reverse=True).items()
        }

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict as timm makes it fit: tables of positions and patches of another image size are resampled.

        One that fits stays as it is: timm's filters also rename what looks like an author's own names.
        """
        own = self.state_dict()
        if all(name in own and value.shape == own[name].shape for name, value in state.items()):
            return state
        convert = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if convert is None:
            return state
        try:
            return dict(convert(dict(state), self.net))
        except Exception:  # of weights that the filter was never tried on; the strict loader says what is wrong
            return state

    def features(self, x: Tensor) -> Features:
        """Features of B×3×H×W images of `image_size`."""
        if self.built_for != self.image_size:
            size = (self.built_for, self.built_for)
            x = F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)
        return self._features(x)

    def _features(self, x: Tensor) -> Features:
        """Features of images in the size that the network is built for."""
        final, maps = self.net.forward_intermediates(x)
        embedding = self.net.forward_head(final, pre_logits=True)
        isotropic = len(maps) > 1 and all(m.shape[1:] == maps[0].shape[1:] for m in maps)
        stages = tuple(maps[i] for i in stage_ends(len(maps))) if isotropic else tuple(maps[-NUM_STAGES:])
        averaged = _as_map(final, embedding.shape[1]) if self.averages_map else None
        last_map = embedding[:, :, None, None] if averaged is None else averaged
        blocks = tuple(maps) if isotropic else ()
        return Features(self.last_linear(embedding), embedding, maps[0], stages, stages, last_map, blocks)

    @torch.no_grad()
    def _probe(self, name: str) -> None:
        """Compare the features of one image with what timm computes, and find out whether it averages a map."""
        image = torch.rand(1, 3, self.built_for, self.built_for, generator=torch.Generator().manual_seed(0))
        read: list[Tensor] = []
        hook = self.last_linear.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        self.eval()
        try:
            logits = self.net(image)
            hook.remove()
            seen, final = self._features(image), self.net.forward_features(image)
            maps = [seen.stem, *seen.stages]
        except UNFIT as error:
            raise _unfit(name, self.built_for, error) from None
        finally:
            self.train()
        if any(m.ndim != 4 for m in maps) or not (_close(seen.embedding, read[0]) and _close(seen.logits, logits)):
            raise RequestError(f"timm:{name} computes its logits in a way that its features do not show; take another")
        last_map = _as_map(final, seen.embedding.shape[1])
        self.averages_map = last_map is not None and _close(last_map.mean(dim=(2, 3)), seen.embedding)
        if _cuts_patches(self.net) and self.built_for != _usual_size(name):
            self._check_margins(name)

    @torch.enable_grad()
    def _check_margins(self, name: str) -> None:
        """Raises RequestError where the rows of the image behind the last whole patch are not read."""
        image = torch.rand(1, 3, self.built_for, self.built_for, generator=torch.Generator().manual_seed(0))
        stem = self.eval()._features(image.requires_grad_()).stem
        self.train()
        (gradient,) = torch.autograd.grad(stem.pow(3).sum(), image)  # the sum itself is constant behind a layer norm
        read = int(gradient.abs().sum(dim=(0, 1, 3)).nonzero().max()) + 1
        if read < self.built_for:
            reason = ValueError(f"its patches cover {read}×{read} of them")
            raise _unfit(name, self.built_for, reason, read)


def _to_timms_keys(_network: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: dict[str, Any]) -> None:
    """Give a state dict timm's keys, so that it can be exchanged with timm and with files of earlier versions."""
    versions = getattr(state, "_metadata", {})
    versions.pop(prefix + PREFIX.removesuffix("."), None)
    for names in (state, versions):
        for name in [name for name in names if name.startswith(prefix + PREFIX)]:
            names[prefix + name.removeprefix(prefix + PREFIX)] = names.pop(name)


def _from_timms_keys(_network: nn.Module, state: dict[str, Tensor], prefix: str, *_others: object) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + PREFIX + name.removeprefix(prefix)] = state.pop(name)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def _as_map(final: Tensor, channels: int) -> Tensor | None:
    """timm's final features as B×channels×H×W, of B×C×H×W, B×H×W×C or B×P×C; None where they are neither."""
    if final.ndim == 3 and final.shape[2] == channels:
        side = int(final.shape[1] ** 0.5)
        return final.transpose(1, 2).unflatten(2, (side, side)) if side * side == final.shape[1] else None
    if final.ndim == 4 and final.shape[1] == channels:
        return final
    return final.permute(0, 3, 1, 2) if final.ndim == 4 and final.shape[3] == channels else None


def _classifier_name(network: "TimmModule", name: str) -> str:
    """The name of the last linear layer; raises RequestError where there is no single one."""
    classifier = network.get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise RequestError(
            f"timm:{name} has no single linear classifier (it is a {type(classifier).__name__}); "
            f"take another network (in place of timm's DeiT with two heads: deit_tiny_distilled, without the prefix)"
        )
    return next(path for path, module in network.named_modules() if module is classifier)


def _cuts_patches(network: nn.Module) -> bool:
    """True if it embeds patches: a part says how large they are, or the first convolution moves by its kernel's size.

    Some CNNs leave a row of pixels over as well, at their usual size too: that is how they are.
    """
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    cuts = first is not None and first.kernel_size == first.stride
    return cuts or any(getattr(part, "patch_size", None) for part in network.modules())


def _usual_size(name: str) -> int:
    """Size in pixels of the images that timm's weights were trained on."""
    return _timm().get_pretrained_cfg(name.partition("@")[0]).input_size[-1]


def _unfit(name: str, size: int, error: Exception, *others: int) -> RequestError:
    """The refusal of an image size; `others` are sizes that fit, beside the usual one."""
    arch, usual = name.partition("@")[0], _usual_size(name)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100].rstrip(".")
    fit = " or ".join(f"timm:{arch}@{other}" for other in sorted({*others, usual}))
    advice = "choose another size" if usual == size else f"{fit} resizes them"
    return RequestError(f"timm:{name} cannot take images of {size}×{size} ({reason}); {advice}")


def _timm() -> Any:  # a module without types
    try:
        import timm
    except ImportError:
        raise RequestError("names such as timm:resnet18 need the package timm: pip install timm==1.0.31") from None
    return timm


def _build(name: str, num_classes: int, image_size: int) -> TimmNetwork:
    """The network NAME or NAME@SIZE, with timm's random weights."""
    arch, _, size = name.partition("@")
    built_for = int(size or image_size)
    _check_size(arch, built_for)
    _check_memory(arch, num_classes, built_for)
    try:
        network = _create(arch, num_classes, built_for)
    except UNFIT as error:
        raise _unfit(name, built_for, error) from None
    return TimmNetwork(network, name, image_size, built_for)


def _check_size(arch: str, size: int | str) -> None:
    if len(str(size)) > len(str(LARGEST_SIZE)) or int(size) > LARGEST_SIZE:
        raise RequestError(f"timm:{arch}@{cut(size)}: images have at most {LARGEST_SIZE} pixels a side; give fewer")


def _check_memory(arch: str, num_classes: int, image_size: int) -> None:
    """Raise RequestError if the weights do not fit in memory: the system would end the process without a word.

    Found without memory, on torch's meta device; a network that cannot be built there is not checked.
    """
    needed, available = 0, memory_bytes()
    with suppress(*UNFIT), torch.random.fork_rng(devices=[]), torch.device("meta"):
        needed = tensor_bytes(_create(arch, num_classes, image_size))
    if available is not None and needed > available:
        raise RequestError(
            f"the weights of timm:{arch} for images of {image_size}×{image_size} take {gibibytes(needed)}, and there "
            f"are {gibibytes(available)} of memory; choose a smaller network or images"
        )


def _create(arch: str, num_classes: int, image_size: int) -> "TimmModule":
    create = partial(_timm().create_model, arch, pretrained=False, num_classes=num_classes)
    try:
        return create(img_size=image_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return create()  # some take images of many sizes and no such argument


@cache
def _recipe(arch: str) -> str:
    """The recipe by default: `repdistiller` for networks with batch norm and without layer norm, which are CNNs;
    `deit` for transformers, MLPs, and CNNs that have taken over their norm."""
    with torch.device("meta"):
        parts = list(_timm().create_model(arch, pretrained=False).modules())
    has_batch_norm = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in parts)
    has_layer_norm = any(isinstance(part, nn.LayerNorm) for part in parts)
    return "repdistiller" if has_batch_norm and not has_layer_norm else "deit"


def published_normalisation(name: str | None) -> Normalisation | None:
    """Mean and standard deviation, of pixels in 0..1, with which the weights named by timm:NAME.TAG were trained.

    None for a name without a tag, and for other networks. The name is one that `MODELS` knows.
    """
    prefix, _, rest = (name or "").partition(":")
    weights = rest.partition("@")[0]
    if prefix != "timm" or "." not in weights:
        return None
    config = _timm().get_pretrained_cfg(weights)
    return tuple(config.mean), tuple(config.std)


def _check_tag(arch: str, tag: str) -> None:
    published = [weights.partition(".")[2] for weights in _timm().list_pretrained(f"{arch}.*")]
    if tag not in published:
        advice = f"available: {', '.join(published)}" if published else "there are none: leave the tag out"
        raise RequestError(f"timm publishes no weights {tag!r} of timm:{arch}; {advice}")


class TimmLibrary(Library):
    """The names behind `timm:`."""

    def canonical(self, name: str) -> str:
        """NAME or NAME@SIZE without its tag; raises RequestError where timm does not know it."""
        plain, at, size = name.partition("@")
        arch, dot, tag = plain.partition(".")
        known = _timm().list_models()
        if arch not in known:
            near = difflib.get_close_matches(arch, known, n=3) or ["resnet18", "mixer_b16_224", "vit_tiny_patch16_224"]
            raise RequestError(
                f"unknown model 'timm:{name}'; did you mean {', '.join(f'timm:{other}' for other in near)}? "
                f"(timm.list_models() has all)"
            )
        if dot:
            _check_tag(arch, tag)
        if not at:
            return arch
        if not (size.isascii() and size.isdigit() and size.strip("0")):
            raise RequestError(f"model 'timm:{name}': write an image size in pixels after @, as in timm:{arch}@224")
        _check_size(arch, size.lstrip("0"))
        return f"{arch}@{int(size)}"

    def entry(self, name: str) -> ModelEntry:
        """How to build and train the network of a canonical NAME."""
        return ModelEntry(partial(_build, name), "timm", FORM, recipe=_recipe(name.partition("@")[0]))


MODELS.add_library("timm", TimmLibrary())
# One stands in the lists for all.
register_model("timm:resnet18", family="timm", summary=FORM)(partial(_build, "resnet18"))
