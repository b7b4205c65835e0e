"""Classical inpainting on simulated two-exposure frames: error on gap pixels, ratio to the noise floor, time.

    python benchmarks/classical_inpainting.py --frames 20

Protocol of Chavez et al. 2022: PILATUS 2M frames resized to 512 x 512, logarithm; horizontal gaps against the second
exposure, artificial vertical gaps against the hidden pixels. The frames are a library of unlike samples, so a frame
says nothing about the next one.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deployments.simulated_beamtime import SAMPLES, SimulationSettings, simulate_frame
from deployments.simulated_beamtime.detector import COUNT_CUTOFF
from deployments.simulated_beamtime.frames import scene_of
from dlsia_core.classical import CLASSICAL_METHODS, BeamGeometry, fill_gaps
from dlsia_core.exposures import merge_exposures
from dlsia_core.inpainting_scores import compare_methods, pool_scores, score_frame
from dlsia_core.intensity import LogScale
from dlsia_core.judged_gaps import paper_vertical_gaps, true_horizontal_gaps
from dlsia_core.metrics.moments import PairMoments
from dlsia_core.noise_floor import poisson_floor_map
from dlsia_core.resize import AreaResizer

Values = NDArray[np.floating]
FRAME = (1679, 1475)
RESIZED = (512, 512)


def frames(
    settings: SimulationSettings, seed: int
) -> Iterator[tuple[str, Values, Values, NDArray[np.bool_], Values, BeamGeometry]]:
    """For both kinds of gaps: name, frame as shown, truth, judged pixels, noise floor of every pixel, beam."""
    scale, resizer = LogScale(), AreaResizer(FRAME, RESIZED)
    for index in range(settings.n_frames):
        first, second = (simulate_frame(settings, index, exposure) for exposure in (1, 2))
        valid, second_valid = ((f.counts >= 0) & (f.counts <= COUNT_CUTOFF) for f in (first, second))
        merged = merge_exposures(first.counts, second.counts, valid, second_valid)
        shown, truth = (
            scale.normalize(resizer.resize(*frame)[0])
            for frame in ((first.counts, valid), (merged.counts, merged.valid))
        )
        floor = poisson_floor_map(first.expected, merged.valid, resizer, scale)
        beam = BeamGeometry(*scene_of(settings, index).beam).resized(FRAME, RESIZED)
        yield "horizontal", shown, truth, true_horizontal_gaps(np.isfinite(shown), np.isfinite(truth)), floor, beam
        hidden = paper_vertical_gaps(np.isfinite(shown), np.random.default_rng([seed, index]))
        judged = hidden & np.isfinite(shown)
        yield "vertical", np.where(hidden, np.float32(np.nan), shown), shown, judged, floor, beam


def main() -> None:
    """Print one table for each kind of gaps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--exposure", type=float, default=1.0, help="seconds; the default is a weak beamline's second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings = SimulationSettings(
        n_frames=options.frames,
        seed=options.seed,
        samples=SAMPLES,
        variety="library",
        second_exposure_shift_px=30,
        exposure_s=options.exposure,
    )
    scores: dict[str, dict[str, list[PairMoments]]] = defaultdict(lambda: defaultdict(list))
    noise, seconds = defaultdict(list), defaultdict(list)
    for gaps, shown, truth, judged, floor, beam in frames(settings, options.seed):
        noise[gaps].append(floor[judged])
        for method in CLASSICAL_METHODS:
            start = time.perf_counter()
            values = fill_gaps(shown, method, beam).values
            seconds[method].append(time.perf_counter() - start)
            scores[gaps][method].append(score_frame(values, truth, judged))
    for gaps, by_method in scores.items():
        floor = float(np.concatenate(noise[gaps]).mean())
        n_pixels = int(pool_scores(by_method["linear"]).weight)
        print(f"\n{gaps}: {options.frames} frames, {n_pixels} px, noise {1e3 * floor:.3f}e-3")
        for row in compare_methods(by_method, gaps, noise_floor=floor, seed=options.seed):
            low, high = ((1e3 * b if b is not None else np.nan) for b in (row.l1_low, row.l1_high))
            print(
                f"{row.method:19} L1 {1e3 * row.l1:6.3f}e-3 [{low:6.3f}, {high:6.3f}]  r {row.pearson_r:.4f}  "
                f"biharmonic x {row.l1_over_biharmonic:.3f}  linear x {row.l1_over_linear:.3f}  noise x "
                f"{row.l1_over_noise_floor:.3f}  {1e3 * np.median(seconds[row.method]):5.1f} ms"
            )


if __name__ == "__main__":
    main()
