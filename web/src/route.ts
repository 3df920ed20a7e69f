// Where the reader is: "#/sweeps/cats/table?group=input". All that a view shows is in its address, so that links and the back button work.
import { useEffect, useState } from "preact/hooks";

export interface Route { parts: string[]; query: URLSearchParams }

function read(): Route {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponentSafely), query: new URLSearchParams(query ?? "") };
}
function decodeURIComponentSafely(text: string): string {
  try { return decodeURIComponent(text); } catch { return text; }
}

export function link(parts: (string | number)[], query: Record<string, string | undefined> | URLSearchParams = {}): string {
  const search = query instanceof URLSearchParams ? new URLSearchParams(query) : new URLSearchParams();
  if (!(query instanceof URLSearchParams)) for (const [key, value] of Object.entries(query)) if (value) search.set(key, value);
  const text = search.toString();
  return "#/" + parts.map((part) => encodeURIComponent(part)).join("/") + (text ? "?" + text : "");
}

export function useRoute(): Route {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const update = () => setRoute(read());
    addEventListener("hashchange", update);
    addEventListener("popstate", update);
    return () => { removeEventListener("hashchange", update); removeEventListener("popstate", update); };
  }, []);
  return route;
}

export function go(address: string) { location.hash = address; }

// Changes entries of the query in place: undefined or "" removes one.
export function setQuery(route: Route, changes: Record<string, string | undefined>) {
  const query = new URLSearchParams(route.query);
  for (const [key, value] of Object.entries(changes)) value ? query.set(key, value) : query.delete(key);
  history.replaceState(null, "", link(route.parts, query));
  dispatchEvent(new PopStateEvent("popstate"));
}
