"""Super-resolution of images that MATLAB's bicubic resizing made smaller."""

from dataclasses import dataclass, replace
from pathlib import Path

from kgt_lightning.data.datamodule import RestorationData
from kgt_lightning.data.image_sets import SMALL, ImageSet


@dataclass(kw_only=True, eq=False)
class SRData(RestorationData):
    """Pairs of a small and a large image.

    A set may be a plain folder of images, or hold them in ``HR`` and their small versions in
    ``LR_bicubic/X<scale>``, named as the image or with ``x<scale>`` after it, as the benchmarks are published.
    Where none are given they are made: for a test of the whole image, in training of the patch.
    """

    def images_in(self, folder: Path, *, training: bool) -> ImageSet:
        """Images of a set, with their small versions if it gives them at this scale.

        Raises:
            ValueError: if it gives them for some images only.

        """
        scale = self.degradation.scale
        clean = super().images_in(folder, training=training)
        entries = list(clean.entries)
        given = folder / SMALL / f"X{scale}"
        if given.is_dir():
            small = {each.name: each.clean for each in self.degraded_in(given).entries}
            for i, each in enumerate(entries):
                names = (each.name, f"{each.name}x{scale}")
                found = next((name for name in names if name in small), None)
                if found is None:
                    raise ValueError(f"{given} has no {' or '.join(names)} for {each.name}: add it, or remove {given}")
                entries[i] = replace(each, degraded=small[found])
        return replace(clean, entries=tuple(entries))
