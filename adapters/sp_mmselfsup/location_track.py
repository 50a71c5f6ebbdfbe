"""LocationTrack: goes with an image through a pipeline of MMEngine, and keeps its place."""

from __future__ import annotations

from typing import Any

from sp_plugin.views.location import ViewLocation

KEY = "sp_track"  # where an image's track lies among the results


class LocationTrack:
    """Where the image in the results lies in the original, for as long as the pipeline runs.

    A copy is the track of an image of its own: ``MultiView`` copies the results for each view.

    Attributes:
        place: of the image as it stands.
        copies: the tracks of the copies, in the order in which they were made.
        dry: only where crops and flips lead is wanted; what changes colours is left out.

    >>> import copy
    >>> track = LocationTrack()
    >>> view = copy.deepcopy(track)
    >>> view.place = view.place.hflip()
    >>> track.copies[0].place.flips, track.place.flips
    ((-1, 1), (1, 1))
    """

    def __init__(self, place: ViewLocation | None = None, dry: bool = False) -> None:
        self.place = place or ViewLocation()
        self.copies: list[LocationTrack] = []
        self.dry = dry

    def __deepcopy__(self, memo: Any) -> LocationTrack:
        self.copies.append(LocationTrack(self.place, self.dry))
        return self.copies[-1]

    @property
    def views(self) -> list[ViewLocation]:
        """Where the views lie that were made of the image; the image itself, if none were."""
        return [track.place for track in self.copies or [self]]
