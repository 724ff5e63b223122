import { render } from "preact";
import { App } from "./App.tsx";
import type { Content } from "./data.ts";

const content = JSON.parse(document.getElementById("data")!.textContent!) as Content;
document.title = content.title;
render(<App content={content} />, document.getElementById("page")!);
