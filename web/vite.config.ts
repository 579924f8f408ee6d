import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";
import { contentSecurityPolicy } from "./dev/csp.ts";
import { mockGateway } from "./dev/mock-server.ts";

/** A gateway to develop against, e.g. http://127.0.0.1:8080; without it a mock answers. */
const gatewayUrl = process.env.SLUICE_URL;

const gatewayPaths = ["/v1", "/health"];

function mock(): Plugin {
  return {
    name: "sluice-mock-gateway",
    configureServer(server) {
      server.middlewares.use(mockGateway());
    },
    configurePreviewServer(server) {
      server.middlewares.use((_request, response, next) => {
        response.setHeader("Content-Security-Policy", contentSecurityPolicy);
        next();
      });
      server.middlewares.use(mockGateway());
    },
  };
}

export default defineConfig({
  plugins: [react(), ...(gatewayUrl ? [] : [mock()])],
  server: {
    host: "127.0.0.1",
    ...(gatewayUrl && { proxy: Object.fromEntries(gatewayPaths.map((path) => [path, gatewayUrl])) }),
  },
  preview: { host: "127.0.0.1" },
  build: {
    target: "es2022",
    license: { fileName: "licenses.md" },
    modulePreload: { polyfill: false },
    // Inlined assets would need `data:` in the content security policy.
    assetsInlineLimit: 0,
  },
});
