// A file that is dropped anywhere on the Import card is read at once. Without it the
// card is a plain form with a field for a file.
"use strict";
(() => {
  const form = document.getElementById("drop");
  if (!form) return;
  const field = document.getElementById("drop-file");
  const said = document.getElementById("drop-said");
  const over = (on) => form.classList.toggle("over", on);
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      over(true);
    });
  }
  form.addEventListener("dragleave", (event) => {
    if (!form.contains(event.relatedTarget)) over(false);
  });
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (event.dataTransfer.files.length !== 1) {
      said.textContent = "Drop one file.";
      return;
    }
    field.files = event.dataTransfer.files;
    said.textContent = "Reading " + field.files[0].name + " …";
    form.requestSubmit();
  });
  // A file that is dropped beside the card must not take the page away.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
})();
