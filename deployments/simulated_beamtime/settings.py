"""What a simulated beamtime is made of: every value that decides a frame, and nothing else."""

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

DetectorName = Literal["Pilatus2M", "Pilatus1M", "Pilatus300k"]
SampleName = Literal["powder", "saxs_spheres", "gisaxs_film", "semicrystalline", "fibre"]
FileFormat = Literal["cbf", "edf", "edf_als", "tiff"]
Variety = Literal["drift", "library"]

DETECTORS: tuple[DetectorName, ...] = get_args(DetectorName)
SAMPLES: tuple[SampleName, ...] = get_args(SampleName)
FILE_FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
VARIETIES: tuple[Variety, ...] = get_args(Variety)


class SimulationSettings(BaseModel):
    """Everything that decides a simulated frame and its file; frozen, unknown keys are refused.

    A frame is a pure function of these settings and its index. `n_frames`, `start_index` and `damaged_files` only
    say which frames are written and how whole the files are; they never change what a frame shows.

    >>> SimulationSettings(seed=7, samples=("powder", "fibre")).n_frames
    48
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scan: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)] = Field(
        default="simulated", description="Name of the scan; file names are <scan>_00001.<ending>. Enters the noise."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the noise and of the positions of crystallites.")
    detector: DetectorName = Field(default="Pilatus2M", description="Detector, by its pyFAI name.")
    detector_seed: int = Field(default=0, ge=0, description="Seed of dead and hot pixels and of the flat field.")
    n_frames: int = Field(default=48, ge=1, description="Number of frames that are written.")
    start_index: int = Field(
        default=0, ge=0, description="Index of the first frame written; the number in a file name is index + 1."
    )
    file_format: FileFormat = Field(
        default="cbf",
        description="cbf: PILATUS CBF. edf: ESRF style, gaps -1. edf_als: gaps and dead pixels 0, with a .txt beside. "
        "tiff: PILATUS TIFF.",
    )
    samples: tuple[SampleName, ...] = Field(
        default=("powder", "saxs_spheres", "gisaxs_film", "semicrystalline"),
        min_length=1,
        description="Sample types, measured in turn.",
    )
    frames_per_sample: int = Field(default=1, ge=1, description="Frames in a row before the next sample's turn.")
    variety: Variety = Field(
        default="drift",
        description="drift: samples that change slowly from frame to frame, as in one scan. library: every frame is "
        "another sample in another setup (size, sharpness, orientation, spots, distance, beam centre, brightness), as "
        "in the archive of a beamline.",
    )
    drift_frames: float = Field(
        default=60.0, gt=0, description="Time constant, in frames, with which the samples change: 1 - exp(-index/it)."
    )
    second_exposure_shift_px: int = Field(
        default=0,
        ge=-500,
        le=500,
        description="Each frame is taken a second time with the detector moved, so that the scattering lies this many "
        "rows lower (higher if negative): what the gaps of the first hide is seen. 0: no second exposures.",
    )
    calibrant: str = Field(default="AgBh", description="pyFAI name of the calibrant that `powder` is.")
    wavelength_m: float = Field(default=1.239842e-10, gt=1e-12, lt=1e-8, description="Wavelength in metres.")
    distance_m: float = Field(default=1.2, gt=0.01, lt=100, description="Sample to detector in metres.")
    beam_x_px: float | None = Field(
        default=None, ge=-1000, le=3000, description="Beam centre along x in pixels; None: 0.517 of the width."
    )
    beam_y_px: float | None = Field(
        default=None, ge=-1000, le=3000, description="Beam centre along y in pixels; None: 0.70 of the height."
    )
    exposure_s: float = Field(default=1.0, gt=0, le=1e5, description="Exposure of one frame in seconds.")
    brightness: float = Field(default=1.0, gt=0, le=1000, description="Factor on all scattering; 1 is a weak beamline.")
    beam_jitter: float = Field(
        default=0.02, ge=0, le=0.2, description="Relative standard deviation of the beam's intensity between frames."
    )
    background_per_s: float = Field(
        default=0.6, ge=0, description="Incoherent scattering, counts per pixel per second."
    )
    dark_per_s: float = Field(default=0.1, ge=0, description="Counts per pixel and second where no beam can reach.")
    beamstop_radius_px: float = Field(default=16.0, ge=0, description="Radius of the beamstop in pixels; 0: none.")
    tube_radius_m: float | None = Field(
        default=0.15, gt=0, description="Radius of the flight tube's window, its edge shadows the corners; None: none."
    )
    flat_field_spread: float = Field(
        default=0.0, ge=0, le=0.3, description="Relative spread of the modules' sensitivity; 0: a perfect flat field."
    )
    dead_fraction: float = Field(default=2e-4, ge=0, le=0.2, description="Fraction of sensitive pixels that are dead.")
    hot_pixels: int = Field(default=4, ge=0, le=10_000, description="Pixels that read above the count cutoff.")
    damaged_files: int = Field(
        default=0,
        ge=0,
        description="How many files are damaged: cut short or, in a CBF (which alone has a checksum), a byte changed.",
    )

    @model_validator(mode="after")
    def _damage_fits(self) -> Self:
        if self.damaged_files > self.n_frames:
            raise ValueError(
                f"damaged_files is {self.damaged_files}, but only {self.n_frames} frames are written; "
                f"give at most {self.n_frames} or write more frames"
            )
        return self

    def file_stem(self, index: int) -> str:
        """File name of a frame without its ending, numbered from 1.

        >>> SimulationSettings(scan="film").file_stem(8)
        'film_00009'
        """
        return f"{self.scan}_{index + 1:05d}"
