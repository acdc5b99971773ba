"""The pictures of the ECG-SL report, each by one command.

python experiments/ecg_sl_figures.py beats RECORD -o beats.png
python experiments/ecg_sl_figures.py saliency RECORD -o saliency.png --model DIR [--model BASELINE]
python experiments/ecg_sl_figures.py beat_saliency RECORD -o beat_saliency.png --model DIR
python experiments/ecg_sl_figures.py attention RECORD -o attention.png --model DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

from ecg_transformers.analysis import plot_attention, plot_beat_saliency, plot_beats, plot_saliency, save_figure
from ecg_transformers.data.readers import read_record
from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figure that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", choices=("beats", "saliency", "beat_saliency", "attention"))
    parser.add_argument("record", help="path of a record")
    parser.add_argument("-o", "--output", required=True, help="picture to write")
    parser.add_argument("--model", action="append", default=[], help="folder or repository; saliency takes several")
    parser.add_argument("--start", type=float, default=0.0, help="first second of the part that is shown")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the part that is shown")
    parser.add_argument("--method", default="gradient", help="gradient, smoothgrad or integrated_gradients")
    options = parser.parse_args(arguments)
    record = read_record(options.record)
    loaded = [
        (
            Path(name).name,
            AutoModelForSequenceClassification.from_pretrained(name).eval(),
            AutoFeatureExtractor.from_pretrained(name),
        )
        for name in options.model
    ]
    if options.figure != "beats" and not loaded:
        parser.error(f"the {options.figure} figure needs --model")
    if options.figure == "beats":
        extractor = loaded[0][2] if loaded else ECGSLFeatureExtractor()
        figure = plot_beats(record, extractor, start_s=options.start, length_s=options.seconds)
    elif options.figure == "saliency":
        figure = plot_saliency(record, loaded, method=options.method, length_s=options.seconds)
    elif options.figure == "beat_saliency":
        figure = plot_beat_saliency(record, *loaded[0][1:], method=options.method)
    else:
        figure = plot_attention(record, loaded[0][1], loaded[0][2], length_s=options.seconds)
    save_figure(figure, options.output)


if __name__ == "__main__":
    main()
