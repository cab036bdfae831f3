"""Dense CRF: mean-field inference in a fully connected random field, by the library pydensecrf2."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfreg.weak.refinement.inputs import check_image_and_scores, divide_by_sum


def dense_crf(
    image: NDArray[np.uint8],
    scores: Tensor,
    *,
    iterations: int = 10,
    smoothness_sigma: float = 3.0,
    smoothness_weight: float = 3.0,
    position_sigma: float = 80.0,
    colour_sigma: float = 13.0,
    appearance_weight: float = 10.0,
) -> Tensor:
    """Refine scores by mean-field inference in a fully connected conditional random field.

    image: uint8 (H, W, 3). scores: float32 (C, H, W), non-negative, of sum 1 over C; returned likewise. With u_i = -
    log of the scores of pixel i, p_i its position and I_i its colour in 0..255, the field's energy is

        E(x)     = sum_i u_i(x_i) + sum_{i<j} [x_i != x_j] k(i, j)
        k(i, j)  = appearance_weight exp(- |p_i - p_j|^2 / (2 position_sigma^2) - |I_i - I_j|^2 / (2 colour_sigma^2))
                 + smoothness_weight exp(- |p_i - p_j|^2 / (2 smoothness_sigma^2))

    and the result is the marginals after `iterations` updates. Sigmas are in pixels and in grey values. Each of the two
    kernels is divided by the square root of its sums at i and at j, and sums are approximate (permutohedral lattice).

    Raises ValueError where pydensecrf2 is not installed, for an image and scores that do not fit together, and for a
    negative number of iterations.

    Source: Krahenbuhl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS
    2011, equations 1 to 3; the defaults are those of the library's own example, usual in weak supervision.
    """
    densecrf = _import_densecrf()
    check_image_and_scores(image, scores)
    if iterations < 0:
        raise ValueError(f"the dense CRF's iterations are {iterations}; give at least 0")
    classes, height, width = scores.shape
    if classes == 1:
        return scores.clone()  # a single class is certain, whatever the library does with one label
    field = densecrf.DenseCRF2D(width, height, classes)
    unary = -scores.detach().cpu().float().clamp(min=1e-5).log().reshape(classes, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary.numpy()))
    field.addPairwiseGaussian(sxy=smoothness_sigma, compat=smoothness_weight)
    field.addPairwiseBilateral(
        sxy=position_sigma, srgb=colour_sigma, rgbim=np.array(image, order="C"), compat=appearance_weight
    )
    marginals = np.array(field.inference(iterations), dtype=np.float32).reshape(classes, height, width)
    return divide_by_sum(torch.from_numpy(marginals)).to(scores.device)


def _import_densecrf() -> Any:
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise ValueError("the refinement dense_crf needs pydensecrf2: pip install 'selfreg[crf]'") from None
    return densecrf
