"""LocationTrack: passes through a pipeline of MMEngine with an image and keeps its location."""

from __future__ import annotations

from typing import Any

from sp_plugin.views.location import ViewLocation

__all__ = ["KEY", "LocationTrack"]

KEY = "sp_track"  # of the track in a pipeline's results


class LocationTrack:
    """Location of the image in a pipeline's results, updated by each transform.

    A deep copy becomes the track of another image: ``MultiView`` copies the results for each view.

    Attributes:
        location: location in the original image.
        copies: tracks of the copies, in the order in which they were made.
        geometry_only: whether transforms that neither crop nor flip nor resize are left out.

    >>> import copy
    >>> track = LocationTrack()
    >>> view = copy.deepcopy(track)
    >>> view.location = view.location.hflip()
    >>> track.copies[0].location.flips, track.location.flips
    ((-1, 1), (1, 1))
    """

    def __init__(self, location: ViewLocation | None = None, geometry_only: bool = False) -> None:
        self.location = location or ViewLocation()
        self.copies: list[LocationTrack] = []
        self.geometry_only = geometry_only

    def __deepcopy__(self, memo: Any) -> LocationTrack:
        self.copies.append(LocationTrack(self.location, self.geometry_only))
        return self.copies[-1]

    @property
    def view_locations(self) -> list[ViewLocation]:
        """Locations of the views made of the image; of the image itself where there are none."""
        return [track.location for track in self.copies or [self]]
