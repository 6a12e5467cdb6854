// Browsers load no modules and no models from the file system: say so, with what to do.
if (location.protocol === "file:") {
  const status = document.getElementById("status");
  const folder = decodeURIComponent(location.pathname.replace(/\/[^/]*$/, ""));
  status.className = "problem";
  status.textContent =
    "This page was opened from the file system, where browsers load no models. Run " +
    `python -m http.server --directory '${folder}' and open http://localhost:8000 instead.`;
}
