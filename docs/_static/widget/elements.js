// The widgets of the site, by their tags.
import { ConvChain } from "./chain.js";
import { ConvWindow } from "./window.js";

customElements.define("conv-window", ConvWindow);
customElements.define("conv-chain", ConvChain);
