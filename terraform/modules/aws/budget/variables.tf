variable "name" {
  description = "Name of the budget."
  type        = string
}

variable "monthly_limit_usd" {
  description = "Cost per month, in US dollars, that the environment should stay below."
  type        = number

  validation {
    condition     = var.monthly_limit_usd > 0
    error_message = "monthly_limit_usd is more than 0."
  }
}

variable "emails" {
  description = "Who gets a mail at 80 % of the limit, and when the forecast exceeds it."
  type        = list(string)

  validation {
    condition     = length(var.emails) > 0 && alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "emails has at least one address: a budget that reaches nobody is none."
  }
}

variable "tag" {
  description = "Value of the cost allocation tag `platform` of what is counted. Activate the tag in the billing console; the whole account is counted where null."
  type        = string
  default     = null
}
