// Before anything is painted: the theme that the reader chose on an earlier page.
try {
  const theme = localStorage.getItem("level5.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}
