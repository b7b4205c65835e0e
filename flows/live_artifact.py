"""A Markdown artifact that is written over again and again, so that a long run does not fill the server's database."""

from typing import cast
from uuid import UUID

from httpx import HTTPError
from prefect import get_client
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from tasks.logs import logger_of


class LiveArtifact:
    """An artifact of the run under way. A server that does not answer costs a picture, not the run."""

    def __init__(self, key: str, description: str) -> None:
        self._artifact = cast(UUID, create_markdown_artifact("Nothing to show yet.", key=key, description=description))

    def show(self, markdown: str) -> None:
        """Put this in the place of what it showed before."""
        try:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=markdown))
        except (OSError, HTTPError, PrefectException) as error:
            logger_of(__name__).warning("The picture in the Prefect UI is not the newest one: %s", error)
