"""Names of the results page: headings of suites, and what an arm is."""

from __future__ import annotations

TITLES = {
    "finals": "Photographs of scenes, at equal cost",
    "scenes": "Photographs of scenes, with SP on every image",
    "scenes-indoors": "Rooms: the same networks on masks of NYU Depth v2",
    "small-1000": "1,000 photographs, trained to the plateau",
    "small-2000": "2,000 photographs, trained to the plateau",
    "small-5000": "5,000 photographs, trained to the plateau",
    "one_gpu": "STL-10 on one GPU",
    "pair_interaction": "What two crops predict jointly",
    "cifar": "CIFAR-10",
    "tune": "Trials",
    "tune-cost": "Trials of a part of each batch",
    "tune-small": "Trials on 1,000 photographs",
    "tune-first": "Earlier trials",
}
ARMS = {
    "longer": "The baseline with SP's extra compute spent on more epochs.",
    "unsupervised": "SP's crops and passes with targets of other images: what the views do alone.",
    "sp-full": "SP on every image of each batch, the setting of the first finals.",
    "augself": "AugSelf: predicts how the crops of the method's own two views differ.",
    "relative_location": "Relative location instead of SP: predicts one of eight directions.",
}
