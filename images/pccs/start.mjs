// Gives Intel's PCCS what the chart says, as node-config reads it, and starts it.
import { mkdirSync } from 'node:fs';

const wanted = ['PCCS_API_KEY', 'PCCS_USER_TOKEN_HASH', 'PCCS_ADMIN_TOKEN_HASH'];
const missing = wanted.filter((name) => !process.env[name]);
if (missing.length) {
  console.error(`missing in the environment: ${missing.join(', ')}`);
  process.exit(1);
}
const { env } = process;
env.NODE_CONFIG = JSON.stringify({
  HTTPS_PORT: Number(env.PCCS_PORT ?? 8081),
  hosts: '0.0.0.0',
  uri: env.PCCS_UPSTREAM ?? 'https://api.trustedservices.intel.com/sgx/certification/v4/',
  ApiKey: env.PCCS_API_KEY,
  UserTokenHash: env.PCCS_USER_TOKEN_HASH,
  AdminTokenHash: env.PCCS_ADMIN_TOKEN_HASH,
  CachingFillMode: env.PCCS_CACHE_FILL_MODE ?? 'LAZY',
  sqlite: { options: { storage: env.PCCS_DATABASE ?? '/data/pccs.db', logging: false } },
});
for (const name of wanted) delete env[name];
mkdirSync('/tmp/logs', { recursive: true });
await import('./pccs_server.js');
