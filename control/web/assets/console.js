// The operator's pages: values under the pointer in charts. Everything else works without a script.
import { dressCharts } from "./charts.js";

dressCharts(document);
