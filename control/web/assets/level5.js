// What every page has: copy buttons, local time, the theme's switch, forms. Without this script all of them can be read and sent.
import { dressCopyables } from "./copy.js";
import { dressMoments } from "./moments.js";
import { dressForms } from "./forms.js";
import { dressSwitches } from "./switches.js";

dressSwitches();
dressCopyables(document);
dressMoments(document);
dressForms(document);
