#!/usr/bin/env python3
"""How much of the speech survived: PESQ-WB, STOI and ESTOI of degraded recordings against their originals.

    quality.py REF DEG [REF DEG ...]     one JSON object a line and pair, on stdout

The delay between the two is found by cross-correlation (of the loudness, where a vocoder left no waveform to
compare) and taken out. Everything is compared at 16 kHz mono.
Exit code 0, or 1 when a pair could not be judged (its line then holds "error" instead of figures).
"""

import argparse
import json
import math
import sys
import warnings

import numpy
from pesq import PesqError, pesq
from pystoi import stoi
from scipy.io import wavfile
from scipy.signal import correlate, correlation_lags, fftconvolve, resample_poly

RATE = 16_000
# How far the delay moves at once as a rule, and how far it can in a whole call: as far as the jitter buffer's cap.
NEAR_S = 0.08
REACH_S = 0.4


def read(path):
    """Reads a WAV file as mono float at 16 kHz."""
    rate, samples = wavfile.read(path)
    if samples.size == 0:
        raise ValueError(f"{path} holds no samples")
    if samples.dtype == numpy.uint8:
        samples = (samples.astype(numpy.float64) - 128) / 128
    elif numpy.issubdtype(samples.dtype, numpy.integer):
        samples = samples.astype(numpy.float64) / -float(numpy.iinfo(samples.dtype).min)
    else:
        samples = samples.astype(numpy.float64)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if rate != RATE:
        divisor = math.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // divisor, rate // divisor)
    return samples


def envelope(samples):
    """How loud it is around each sample: what a vocoder keeps when it keeps no waveform."""
    window = numpy.hanning(RATE // 50)
    loudness = fftconvolve(numpy.abs(samples), window / window.sum(), mode="same")
    return loudness - loudness.mean()


def best_lag(reference, degraded, limit_s):
    """The lag at which the two agree best, and how well: 1 is the same, 0 is unrelated."""
    correlation = correlate(degraded, reference, method="fft")
    lags = correlation_lags(len(degraded), len(reference))
    near = numpy.abs(lags) <= limit_s * RATE
    index = numpy.argmax(correlation[near])
    scale = numpy.linalg.norm(reference) * numpy.linalg.norm(degraded)
    return int(lags[near][index]), correlation[near][index] / max(scale, 1e-12)


def align(reference, degraded, limit_s):
    """Cuts both to the span they share; returns them and the delay of `degraded` in samples."""
    delay, likeness = best_lag(reference, degraded, limit_s)
    if likeness < 0.5:
        delay, _ = best_lag(envelope(reference), envelope(degraded), limit_s)
    if delay >= 0:
        degraded = degraded[delay:]
    else:
        reference = reference[-delay:]
    length = min(len(reference), len(degraded))
    return reference[:length], degraded[:length], delay


def follow(reference, degraded):
    """Takes the changes of the jitter buffer's delay out of `degraded`, as PESQ does for itself and STOI does not.

    Frame by frame the waveform is looked for around the last lag; a frame that is not clearly more like another place
    keeps the lag it had, so a vocoder's sound, which keeps no waveform, is left as it is. Farther than `NEAR_S` from the
    last lag only what is hardly to be mistaken counts, and only if nothing near it is alike.
    """
    size, hop, near, reach = int(0.4 * RATE), int(0.1 * RATE), int(NEAR_S * RATE), int(REACH_S * RATE)
    window = numpy.hanning(size)
    before = size + reach
    padded = numpy.pad(degraded, (before, size + reach))
    out, weight, lag = numpy.zeros(len(reference) + size), numpy.full(len(reference) + size, 1e-9), 0
    for start in range(0, len(reference) - size, hop):
        lag = min(max(lag, reach - before - start), len(padded) - before - size - reach - start)
        first = start + before + lag - reach
        wanted, around = reference[start : start + size], padded[first : first + size + 2 * reach]
        scores = correlate(around, wanted, mode="valid", method="fft")
        energy = numpy.cumsum(numpy.pad(around**2, (1, 0)))
        energy = energy[size:] - energy[:-size]
        likeness = scores / numpy.sqrt(numpy.maximum(energy * float(wanted @ wanted), 1e-12))
        best = reach - near + int(numpy.argmax(likeness[reach - near : reach + near + 1]))
        far = int(numpy.argmax(likeness))
        if likeness[best] < 0.6 and likeness[far] > 0.8:
            best = far
        if likeness[best] > max(0.6, likeness[reach] + 0.1):
            lag += best - reach
        begin = start + before + lag
        out[start : start + size] += window * padded[begin : begin + size]
        weight[start : start + size] += window
    return (out / weight)[: len(reference)]


def judge(reference_path, degraded_path, limit_s):
    """The figures of one pair."""
    reference, degraded, delay = align(read(reference_path), read(degraded_path), limit_s)
    if len(reference) < RATE // 2:
        raise ValueError("the two share less than half a second")
    if not numpy.any(degraded):
        raise ValueError(f"{degraded_path} is silent")
    followed = follow(reference, degraded)
    return {
        "reference": reference_path,
        "degraded": degraded_path,
        "delay_ms": round(1000 * delay / RATE, 2),
        "seconds": round(len(reference) / RATE, 2),
        "pesq_wb": round(float(pesq(RATE, reference, degraded, "wb")), 3),
        "stoi": round(float(stoi(reference, followed, RATE)), 4),
        "estoi": round(float(stoi(reference, followed, RATE, extended=True)), 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wav", nargs="+", help="WAV files: reference, degraded, reference, degraded, ...")
    parser.add_argument("--max-delay", type=float, default=2.0, metavar="S", help="longest delay looked for (2)")
    parser.add_argument("--mean", action="store_true", help="one more line with the mean of all pairs")
    options = parser.parse_args()
    if len(options.wav) % 2:
        parser.error("files come in pairs: reference, degraded")

    warnings.simplefilter("ignore")
    results, failed = [], False
    for reference, degraded in zip(options.wav[::2], options.wav[1::2]):
        try:
            result = judge(reference, degraded, options.max_delay)
            results.append(result)
        except (OSError, ValueError, PesqError) as error:
            failed = True
            result = {"reference": reference, "degraded": degraded, "error": str(error)}
        print(json.dumps(result), flush=True)
    if options.mean and results:
        mean = {key: round(float(numpy.mean([r[key] for r in results])), 4) for key in ("pesq_wb", "stoi", "estoi")}
        print(json.dumps({"mean_of": len(results), **mean}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
