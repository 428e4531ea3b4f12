"""What all pages share: rendering, the look, small scripts, charts, and the proof that a request came from a page of ours."""
