"""Description of one scene of the demo world: shapes, materials, light and camera.

Lengths are in metres, positions in the image in pixels (x to the right, y downwards). The camera
looks straight ahead: at a distance of z metres one metre is FOCAL / z pixels large, and the ground
is FOCAL * camera height / z pixels below the horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SIDE = 96  # pixels, both ways
FOCAL = 96.0  # pixels
SKY = 60.0  # metres: distance of the sky in depth maps
HILLS = 40.0  # metres

Colour = tuple[float, float, float]  # red, green, blue in [0, 1]


@dataclass(frozen=True)
class Material:
    """A colour and a pattern.

    Attributes:
        colour: colour at the mean of the pattern.
        pattern: index of the pattern.
        contrast: relative change of the colour per standard deviation of the pattern.
        origin: texel of the pattern at the centre of the shape.
        scale: texels per metre.
        turn: rotation of the pattern in radians.
    """

    colour: Colour
    pattern: int
    contrast: float
    origin: tuple[int, int]
    scale: float
    turn: float


@dataclass(frozen=True)
class Shape:
    """A part at its position in the image.

    Attributes:
        kind: index of the outline.
        part: value in the part mask; 0 for a part of no toy.
        x, y: centre in pixels.
        a, b: half width and half height before the rotation, in pixels.
        turn: rotation in radians, anticlockwise.
        z: distance of the middle plane in metres.
        material: material of the surface.
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
        """Half width and half height of the upright bounding box, in pixels."""
        sin, cos = abs(math.sin(self.turn)), abs(math.cos(self.turn))
        return self.a * cos + self.b * sin, self.a * sin + self.b * cos


@dataclass(frozen=True)
class Thing:
    """Shapes that form one object with one shadow.

    Attributes:
        shapes: shapes from back to front.
        foot: row of the image where the thing meets the ground.
        z: distance in metres.
        shadow: whether it casts a shadow on the ground.
    """

    shapes: tuple[Shape, ...]
    foot: float
    z: float
    shadow: bool = True


@dataclass(frozen=True)
class Scene:
    """Content of an image.

    Attributes:
        horizon: row of the horizon in pixels.
        height: height of the camera above the ground in metres.
        light: unit vector towards the light (right, up, towards the viewer).
        ground: material of the ground.
        back: material of the sky or the wall.
        back_low: colour at the lower end of the sky or the wall.
        back_z: distance of the sky or the wall in metres.
        hills: height of the hills in front of the sky in pixels; 0 for none.
        things: things from far to near.
        blur: blur of the lens, in [0, 0.3].
        noise: standard deviation of the sensor's noise, of a full range of 1.
        gain: gain of each colour channel.
        noise_key: seed of the noise.
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
        """Row where the ground meets the sky or the wall, in pixels."""
        return self.horizon + FOCAL * self.height / self.back_z
