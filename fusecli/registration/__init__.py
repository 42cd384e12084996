"""How a moving image lies on a fixed one: methods and transforms by name.

    features    the direction of edges, which both cameras see
    frames      constant frames, which are no evidence
    search      exhaustive search for rotation, scale and shift (the method `ngf`)
    blocks      local agreement by cell and shift, and models that most cells agree on
    refine      from a rough similarity to a precise matrix
    dense       from a matrix to a smooth field
    classical   what other tools offer: ecc, mi, phase, feature, flow
    candidates  what the methods offer, and decoys that cannot be right
    judge       the independent judge that accepts or refuses
    estimate    one call that does it all
    transform   the file format `fusecli/transform/1`
    rig         one robust transform for a folder

Importing this file imports none of them.
"""

import difflib

from fusecli.errors import MissingError, UsageError

METHODS = ("auto", "ngf", "ecc", "mi", "phase", "feature", "flow", "reconet")
TRANSFORMS = ("auto", "translation", "euclidean", "similarity", "affine", "homography", "dense")

_ONLY = {"phase": ("auto", "translation"), "flow": ("auto", "dense"), "reconet": ("auto", "dense")}


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        UsageError: `register.method`.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=1)
        raise UsageError(
            f"there is no registration method '{method}'",
            code="register.method",
            facts=[f"available: {', '.join(METHODS)}"],
            hint=f"did you mean '{near[0]}'?" if near else None,
        )


def check_combination(method: str, transform: str) -> None:
    """Refuse an unknown method, or one that cannot find the transform asked for.

    Raises:
        UsageError: `register.method` or `register.transform`.
    """
    check_method(method)
    allowed = _ONLY.get(method, TRANSFORMS)
    if transform not in allowed:
        raise UsageError(
            f"--method {method} cannot find a transform of the kind '{transform}'",
            code="register.transform",
            hint=f"leave --transform out, or choose {allowed[-1]}",
        )


def check_weights(method: str, given: bool, option: str = "--weights") -> None:
    """Refuse a learned method without weights, and weights for a method that has no use for them.

    Args:
        method: One of `METHODS`.
        given: Whether weights were named.
        option: By which they are.

    Raises:
        MissingError: `weights.missing`.
        UsageError: `register.weights`.
    """
    if method == "reconet" and not given:
        raise MissingError(
            f"reconet registers with weights of yours, named by {option}: none are shipped",
            code="weights.missing",
            hint="fusecli train IR VIS -o RUN -m reconet-u-register --set moves=either,"
            f" then {option} RUN/best.safetensors",
        )
    if given and method not in ("auto", "reconet"):
        raise UsageError(
            f"{method} has no use for {option}",
            code="register.weights",
            hint=f"leave {option} out, or choose reconet or auto",
        )
