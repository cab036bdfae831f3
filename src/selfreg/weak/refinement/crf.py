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

    With u_i = - log of the scores of pixel i, p_i its position and I_i its colour in 0..255, the energy is

        E(x)     = sum_i u_i(x_i) + sum_{i<j} [x_i != x_j] k(i, j)
        k(i, j)  = appearance_weight exp(- |p_i - p_j|^2 / (2 position_sigma^2) - |I_i - I_j|^2 / (2 colour_sigma^2))
                 + smoothness_weight exp(- |p_i - p_j|^2 / (2 smoothness_sigma^2))

    and the result is the marginals after `iterations` updates. Each of the two kernels is divided by the square root of
    its sums at i and at j; sums are approximate (permutohedral lattice).

    Args:
        image: Photograph, uint8 (H, W, 3).
        scores: float32 (C, H, W), non-negative, summing to 1 over C.
        iterations: Number of mean-field updates.
        smoothness_sigma: Width of the smoothness kernel, in pixels.
        smoothness_weight: Weight of the smoothness kernel.
        position_sigma: Spatial width of the appearance kernel, in pixels.
        colour_sigma: Colour width of the appearance kernel, in grey values.
        appearance_weight: Weight of the appearance kernel.

    Returns:
        Marginals, float32 (C, H, W), summing to 1 over C.

    Raises:
        ValueError: If pydensecrf2 is not installed, image and scores do not fit together, or iterations is negative.

    Source: Krahenbuhl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS
    2011, equations 1 to 3; the defaults are those of the library's own example, usual in weak supervision.
    """
    densecrf = _import_densecrf()
    check_image_and_scores(image, scores)
    if iterations < 0:
        raise ValueError(f"the dense CRF's iterations are {iterations}; give at least 0")
    classes, height, width = scores.shape
    if classes == 1:
        return scores.clone()  # the library is not defined for one label
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
