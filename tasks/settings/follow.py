"""Settings for following a scan while it grows."""

from pydantic import Field

from tasks.settings.base import Settings


class FollowSettings(Settings):
    """When frames of a growing scan are taken, and when it has ended. None of this changes a number in the store."""

    poll_s: float = Field(
        default=0.5, gt=0, description="Seconds between two looks; a file is taken when it did not change in between."
    )
    flush_s: float = Field(
        default=2.0, ge=0, description="Seconds after which frames are taken that do not fill a shard (16 frames) yet."
    )
    late_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which frames wait for one of a lower number that is missing or incomplete. "
        "One that comes still later is stored last.",
    )
    quiet_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds without a new file after which the scan has ended; longer by itself where frames come "
        "slowly (one and a half times the longest pause).",
    )
    give_up_s: float = Field(
        default=60.0, gt=0, description="Longest such time, and for how long incomplete files hold up the end."
    )
    first_frame_s: float = Field(
        default=600.0, ge=0, description="Seconds to wait for the first frame of a folder that is empty yet."
    )
    map_from_frames: int = Field(
        default=32, ge=8, description="Frames from which the live map is drawn; it is fitted anew as they double."
    )
    map_every_s: float = Field(default=3.0, gt=0, description="Seconds between two pictures of the live map.")
