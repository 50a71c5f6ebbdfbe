"""One scene of the demo world: where everything stands, and in which light.

Lengths are in metres, places in the image in pixels (x to the right, y downwards). The camera
looks straight ahead: a thing z metres away is FOCAL / z pixels large for each of its metres, and
stands on the ground FOCAL * camera height / z pixels below the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SIDE = 96  # pixels, both ways
FOCAL = 96.0  # pixels
SKY = 60.0  # metres: what counts as the sky's distance
HILLS = 40.0  # metres

Colour = tuple[float, float, float]  # red, green, blue in [0, 1]


@dataclass(frozen=True)
class Material:
    """A colour and a pattern.

    Attributes:
        colour: Of the middle of the pattern.
        pattern: Which of the patterns.
        contrast: How far the pattern changes the colour, per standard deviation.
        origin: Texel of the pattern that lies in the middle of the thing.
        scale: Texels per metre.
        turn: Of the pattern, in radians.
    """

    colour: Colour
    pattern: int
    contrast: float
    origin: tuple[int, int]
    scale: float
    turn: float


@dataclass(frozen=True)
class Shape:
    """A part as it stands in the image.

    Attributes:
        kind: Which outline.
        part: What it counts as in the part mask; 0 where it belongs to no toy.
        x, y: Its centre, in pixels.
        a, b: Half its width and height before the turn, in pixels.
        turn: In radians, anticlockwise.
        z: How far away its middle plane is, in metres.
        material: What it is made of.
    """

    kind: int
    part: int
    x: float
    y: float
    a: float
    b: float
    turn: float
    z: float
    material: Material

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and half the height of the upright box round it, in pixels."""
        sin, cos = abs(math.sin(self.turn)), abs(math.cos(self.turn))
        return self.a * cos + self.b * sin, self.a * sin + self.b * cos


@dataclass(frozen=True)
class Thing:
    """Shapes that stand together, and cast one shadow.

    Attributes:
        shapes: The hindmost first.
        foot: The row of the image where it stands on the ground.
        z: How far away, in metres.
        shadow: Whether it casts one on the ground.
    """

    shapes: tuple[Shape, ...]
    foot: float
    z: float
    shadow: bool = True


@dataclass(frozen=True)
class Scene:
    """Everything that an image shows.

    Attributes:
        horizon: The row at the height of the camera, in pixels.
        height: Of the camera above the ground, in metres.
        light: Unit vector towards the light: right, up, towards the viewer.
        ground: What the ground is made of.
        back: What the sky or the wall is made of.
        back_low: The colour of its lower end.
        back_z: How far away it is, in metres.
        hills: How high the hills before the sky rise, in pixels; 0 for none.
        things: All that stands there, the farthest first.
        blur: How strongly the lens blurs, in [0, 0.3].
        noise: Standard deviation of the sensor's noise, of a full range of 1.
        gain: Brightness of each colour.
        noise_key: Seed of the noise.
    """

    horizon: float
    height: float
    light: tuple[float, float, float]
    ground: Material
    back: Material
    back_low: Colour
    back_z: float
    hills: float
    things: tuple[Thing, ...]
    blur: float
    noise: float
    gain: Colour
    noise_key: int

    @property
    def ground_end(self) -> float:
        """The row where the ground meets the sky or the wall, in pixels."""
        return self.horizon + FOCAL * self.height / self.back_z
