// Logs in without leaving the page, so that a wrong key is told beside the field.
"use strict";

const loginForm = document.getElementById("login-form");

loginForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = document.getElementById("key");
  const response = await fetch("/login", { method: "POST", body: new URLSearchParams({ key: input.value.trim() }), redirect: "manual" });
  if (response.type === "opaqueredirect" || response.ok) { location.reload(); return; }
  const problem = await response.json().catch(() => ({}));
  document.getElementById("key-error").textContent = problem.detail ?? `the service answered ${response.status}`;
  input.classList.add("is-invalid");
  input.setAttribute("aria-invalid", "true");
  input.focus();
});
