// A table of the class "sortable" gets a box that searches its rows, and headings that sort them.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const headings = [...[...table.tHead.rows].at(-1).cells];

  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = search.ariaLabel = `Search ${rows.length} rows`;
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.parentElement.before(search);

  const compare = (a, b) => {
    const numbers = [parseFloat(a), parseFloat(b)];
    if (!numbers.every(Number.isFinite)) return a.localeCompare(b);
    return numbers[0] - numbers[1];
  };
  headings.forEach((heading, column) => {
    if (!heading.textContent) return;
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const order = heading.ariaSort === "descending" ? "ascending" : "descending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const text = (row) => row.cells[column].textContent;
      body.append(...rows.sort((a, b) => sign * compare(text(a), text(b))));
    });
  });
}
