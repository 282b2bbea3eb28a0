"""Building blocks of a gateway: asyncio and this library only, no web framework and no HTTP client.

The flow of a request::

    token    = await billing.authenticate(header)           # 401 if the token is not valid
    admitted = await billing.admit(body, id=..., at=..., token=token, api="chat")     # checked, counted, held
    answer   = await billing.forward(admitted, send)        # sent, metered, settled

``send`` is the only code of your own: it sends ``admitted.request`` to a provider, with any HTTP client. A flow of your
own may call ``settle_response``, ``settle_stream``, ``settle_unknown`` or ``release`` in the place of ``forward``, in a
task of ``billing.background``.

Invariants:

- Nothing is sent to the provider before its maximum cost is held. What is held cannot be spent by another request.
- A hold is settled or released exactly once. Operations are idempotent by the id of the request, so retries are safe.
- An answer is charged by its reported usage; if that cannot be billed, by an estimate or the hold, as the policy says.
  Estimates are marked in the journal and on the bill.
- A client that leaves does not stop the metering: the provider is read to its end, within bounds.
- Only a request that was not sent, or that the provider rejected, is free.
- Messages to clients contain nothing about other customers, prices or the database. Logs contain no text of customers
  or models, only ids, codes, counts and names.

Not guaranteed:

- If the process dies between the provider's answer and the settlement, the hold expires and the answer is not charged.
  The provider's bill shows it.
- Tools that the provider runs may cost more than was held; ``worst_case.is_guaranteed`` is then false.
"""

from brivionix_billing.gateway.admission import AdmittedRequest, Api, CounterPool, prepare_request
from brivionix_billing.gateway.background import BackgroundTasks
from brivionix_billing.gateway.billing import DEFAULT_RETRY_DELAYS, GatewayBilling
from brivionix_billing.gateway.client_errors import (
    RESPONSE_HEADERS,
    ErrorFormat,
    GatewayError,
    error_body,
    from_billing_error,
    from_provider_error,
)
from brivionix_billing.gateway.exchange import ClientAnswer, NotSentError, Send, UpstreamAnswer
from brivionix_billing.gateway.holds import HoldManager
from brivionix_billing.gateway.intake import Body, Parse, too_large
from brivionix_billing.gateway.limits import DEFAULT_LIMITS, GatewayLimits
from brivionix_billing.gateway.metered_stream import MeteredStream
from brivionix_billing.gateway.policy import DEFAULT_POLICY, GatewayPolicy, OtherModel, Resolution
from brivionix_billing.gateway.pricing import PricedResponse, price_response
from brivionix_billing.gateway.safe_log import describe_exception, loggable
from brivionix_billing.gateway.stream_filter import UsageChunkFilter

__all__ = [
    "GatewayBilling",
    "DEFAULT_POLICY",
    "GatewayPolicy",
    "DEFAULT_LIMITS",
    "GatewayLimits",
    "Body",
    "Parse",
    "too_large",
    "Resolution",
    "OtherModel",
    "DEFAULT_RETRY_DELAYS",
    "ClientAnswer",
    "NotSentError",
    "Send",
    "UpstreamAnswer",
    "ErrorFormat",
    "RESPONSE_HEADERS",
    "AdmittedRequest",
    "Api",
    "MeteredStream",
    "UsageChunkFilter",
    "GatewayError",
    "error_body",
    "from_billing_error",
    "from_provider_error",
    "BackgroundTasks",
    "CounterPool",
    "HoldManager",
    "PricedResponse",
    "prepare_request",
    "describe_exception",
    "loggable",
    "price_response",
]
