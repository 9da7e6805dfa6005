"""Scores of restored images under named protocols, and what papers report."""

from kgt_lightning.metrics.psnr_ssim import psnr, psnr_b, ssim, ssim_3d

__all__ = ["psnr", "psnr_b", "ssim", "ssim_3d"]
